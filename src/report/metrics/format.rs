//! The forms of the exposition: OpenMetrics for who asks for it, else Prometheus' text format, which ESO serves.

/// A form of the exposition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics text 1.0.
    OpenMetrics,
    /// Prometheus' text format 0.0.4.
    Plain,
}

const OPEN_METRICS: &str = "application/openmetrics-text";

impl Format {
    /// What an `Accept` header asks for: OpenMetrics only where it is named, and the other format is not liked better.
    #[must_use]
    pub fn of(accept: &str) -> Self {
        let liked = |media: &str| {
            let ranges = accept.split(',').filter(|range| media_type(range).eq_ignore_ascii_case(media));
            ranges.map(weight).fold(0.0, f32::max)
        };
        let open = liked(OPEN_METRICS);
        if open > 0.0 && open >= liked("text/plain") { Self::OpenMetrics } else { Self::Plain }
    }

    /// Its content type.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// An exposition, which is OpenMetrics text, in this form.
    #[must_use]
    pub fn of_open_metrics(self, text: String) -> String {
        match self {
            Self::OpenMetrics => text,
            Self::Plain => plain(&text),
        }
    }
}

fn media_type(range: &str) -> &str {
    range.split(';').next().unwrap_or_default().trim()
}

/// The weight `q` of a range; 1 where none is given.
fn weight(range: &str) -> f32 {
    let given = range.split(';').skip(1).find_map(|parameter| parameter.trim().strip_prefix("q="));
    given.map_or(1.0, |q| q.parse().unwrap_or_default())
}

/// The same samples in the text format 0.0.4. There a family is called as its samples are, also those of counters and of `info`, and
/// a counter needs no `_total`: what is `unknown` to OpenMetrics for want of it is a counter here.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut help = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            // the name that it gets is known with the type, which comes next
            help = rest.split_once(' ').map_or("", |(_, help)| help);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "unknown" => ("", "counter"),
                "info" => ("_info", "gauge"),
                other => ("", other),
            };
            out.extend(["# HELP ", name, suffix, " ", help, "\n# TYPE ", name, suffix, " ", kind, "\n"]);
        } else if !line.starts_with('#') {
            out.extend([line, "\n"]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_is_for_who_asks_for_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                          application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
        for (accept, expected) in [
            ("", Format::Plain),
            ("*/*", Format::Plain),
            ("text/plain", Format::Plain),
            ("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", Format::Plain),
            (prometheus, Format::OpenMetrics),
            ("Application/OpenMetrics-Text", Format::OpenMetrics),
            ("text/plain;version=0.0.4;q=0.6, application/openmetrics-text;version=1.0.0;q=0.5", Format::Plain),
            ("application/openmetrics-text;q=0", Format::Plain),
            ("application/openmetrics-text; q=oops", Format::Plain),
        ] {
            assert_eq!(Format::of(accept), expected, "{accept}");
        }
    }

    #[test]
    fn the_older_format_names_families_as_their_samples() {
        let open = "# HELP a Things, counted\n# TYPE a counter\na_total{x=\"# y\"} 1\n\
                    # HELP b_count Calls\n# TYPE b_count unknown\nb_count 2\n\
                    # HELP c_seconds Time\n# TYPE c_seconds histogram\n# UNIT c_seconds seconds\nc_seconds_sum 0.5\n\
                    # HELP d Build\n# TYPE d info\nd_info{version=\"1\"} 1\n# EOF\n";
        let plain = "# HELP a_total Things, counted\n# TYPE a_total counter\na_total{x=\"# y\"} 1\n\
                     # HELP b_count Calls\n# TYPE b_count counter\nb_count 2\n\
                     # HELP c_seconds Time\n# TYPE c_seconds histogram\nc_seconds_sum 0.5\n\
                     # HELP d_info Build\n# TYPE d_info gauge\nd_info{version=\"1\"} 1\n";
        assert_eq!(Format::Plain.of_open_metrics(open.to_owned()), plain);
        assert_eq!(Format::OpenMetrics.of_open_metrics(open.to_owned()), open);
    }
}
