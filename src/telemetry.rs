//! Log lines: JSON or text, a level that can be changed while the process runs, and nothing of a secret in them.
//!
//! Only keyferry's own targets follow the level. The libraries stay at `warn`, and those that could put a request's or a response's
//! body into a line (kube's client does when it cannot decode one) at `error`, also at level `trace`.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::jiff::Timestamp;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use crate::cli::{LogFormat, LogSettings};

/// Libraries that handle bodies and may log them, by the start of their target.
const HELD_AT_ERROR: [&str; 8] = ["kube", "aws_sdk", "aws_smithy", "aws_runtime", "aws_sigv4", "hyper", "h2", "tower_http"];

/// A log level, by ESO's names. zap's `dpanic`, `panic` and `fatal` are for lines that end a process: here they mean `error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Everything of keyferry's.
    Trace,
    /// Each decision.
    Debug,
    /// Each outcome.
    Info,
    /// What somebody should look at.
    Warn,
    /// What does not work.
    Error,
}

impl Level {
    const ALL: [Self; 5] = [Self::Trace, Self::Debug, Self::Info, Self::Warn, Self::Error];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }

    const fn filter(self) -> LevelFilter {
        match self {
            Self::Trace => LevelFilter::TRACE,
            Self::Debug => LevelFilter::DEBUG,
            Self::Info => LevelFilter::INFO,
            Self::Warn => LevelFilter::WARN,
            Self::Error => LevelFilter::ERROR,
        }
    }

    fn targets(self) -> Targets {
        let held = HELD_AT_ERROR.map(|target| (target, LevelFilter::ERROR));
        let others = self.filter().min(LevelFilter::WARN);
        Targets::new().with_default(others).with_targets(held).with_target("keyferry", self.filter())
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.to_ascii_lowercase();
        let level = Self::ALL.into_iter().find(|level| level.as_str() == name);
        match name.as_str() {
            "dpanic" | "panic" | "fatal" => Ok(Self::Error),
            _ => level.ok_or_else(|| "give trace, debug, info, warn, error, dpanic, panic or fatal".into()),
        }
    }
}

/// The form of the times in log lines, by the names of zap's flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeEncoding {
    /// Seconds since 1970, with a fraction.
    Epoch,
    /// Milliseconds since 1970, with a fraction.
    Millis,
    /// Nanoseconds since 1970.
    Nano,
    /// `2006-01-02T15:04:05.000Z`.
    Iso8601,
    /// `2006-01-02T15:04:05Z`.
    Rfc3339,
    /// `2006-01-02T15:04:05.999999999Z`.
    Rfc3339Nano,
}

impl FromStr for TimeEncoding {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            "epoch" => Ok(Self::Epoch),
            "millis" => Ok(Self::Millis),
            "nano" => Ok(Self::Nano),
            "iso8601" => Ok(Self::Iso8601),
            "rfc3339" => Ok(Self::Rfc3339),
            "rfc3339nano" => Ok(Self::Rfc3339Nano),
            _ => Err("give epoch, millis, nano, iso8601, rfc3339 or rfc3339nano".into()),
        }
    }
}

impl TimeEncoding {
    fn write(self, now: Timestamp, out: &mut impl fmt::Write) -> fmt::Result {
        let since = now.duration_since(Timestamp::UNIX_EPOCH);
        match self {
            Self::Epoch => write!(out, "{:.6}", since.as_secs_f64()),
            Self::Millis => write!(out, "{:.3}", since.as_secs_f64() * 1000.0),
            Self::Nano => write!(out, "{}", since.as_nanos()),
            Self::Iso8601 => write!(out, "{now:.3}"),
            Self::Rfc3339 => write!(out, "{now:.0}"),
            Self::Rfc3339Nano => write!(out, "{now}"),
        }
    }
}

impl FormatTime for TimeEncoding {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        self.write(Timestamp::now(), w)
    }
}

/// The level of the running process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LevelHandle {
    filter: reload::Handle<Targets, Registry>,
    level: Arc<Mutex<Level>>,
}

impl LevelHandle {
    /// The level that is in force.
    #[must_use]
    pub fn get(&self) -> Level {
        *self.level.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the level, of all threads, at once.
    ///
    /// # Errors
    /// When the process is on its way out and logs no more.
    pub fn set(&self, level: Level) -> Result<(), reload::Error> {
        let mut current = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        self.filter.reload(level.targets())?;
        *current = level;
        Ok(())
    }
}

/// Why logging cannot start.
#[derive(Debug, thiserror::Error)]
#[error("logging is set up already: {0}")]
pub struct InitError(#[from] tracing_subscriber::util::TryInitError);

/// Starts logging to the standard error, and makes panics log lines.
///
/// # Errors
/// When something else in the process has set up logging before.
pub fn init(settings: LogSettings) -> Result<LevelHandle, InitError> {
    let (subscriber, handle) = subscriber(settings, io::stderr);
    subscriber.try_init()?;
    log_panics();
    Ok(handle)
}

/// The subscriber itself, apart so that tests can give it a writer of their own.
pub(crate) fn subscriber<W>(settings: LogSettings, writer: W) -> (impl tracing::Subscriber + Send + Sync, LevelHandle)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(settings.level.targets());
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_timer(settings.time).with_writer(writer);
    let lines = match settings.format {
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).boxed(),
        LogFormat::Text => lines.boxed(),
    };
    let handle = LevelHandle { filter: handle, level: Arc::new(Mutex::new(settings.level)) };
    (Registry::default().with(filter).with(lines), handle)
}

/// A panic becomes a log line that says where, and never what: the payload may hold a value.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current();
        tracing::error!(location, thread = thread.name().unwrap_or_default(), "panicked; this is a bug, please report it");
    }));
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use k8s_openapi::jiff::SignedDuration;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
        }
    }

    fn start(format: LogFormat, level: Level) -> (impl tracing::Subscriber + Send + Sync, LevelHandle, Lines) {
        let lines = Lines::default();
        let writer = lines.clone();
        let settings = LogSettings { format, level, time: TimeEncoding::Rfc3339 };
        let (subscriber, handle) = subscriber(settings, move || writer.clone());
        (subscriber, handle, lines)
    }

    #[test]
    fn levels_by_esos_names() {
        for (name, level) in [
            ("trace", Level::Trace),
            ("debug", Level::Debug),
            ("INFO", Level::Info),
            ("warn", Level::Warn),
            ("error", Level::Error),
            ("dpanic", Level::Error),
            ("panic", Level::Error),
            ("fatal", Level::Error),
        ] {
            assert_eq!(name.parse(), Ok(level), "{name}");
        }
        assert!("verbose".parse::<Level>().unwrap_err().contains("debug, info"));
    }

    #[test]
    fn times() {
        let now = Timestamp::UNIX_EPOCH + SignedDuration::new(1_700_000_000, 123_456_789);
        for (name, expected) in [
            ("epoch", "1700000000.123457"),
            ("millis", "1700000000123.457"),
            ("nano", "1700000000123456789"),
            ("iso8601", "2023-11-14T22:13:20.123Z"),
            ("rfc3339", "2023-11-14T22:13:20Z"),
            ("rfc3339nano", "2023-11-14T22:13:20.123456789Z"),
        ] {
            let mut text = String::new();
            name.parse::<TimeEncoding>().unwrap().write(now, &mut text).unwrap();
            assert_eq!(text, expected, "{name}");
        }
    }

    #[test]
    fn libraries_never_follow_the_level_down() {
        let (subscriber, _handle, lines) = start(LogFormat::Json, Level::Trace);
        tracing::subscriber::with_default(subscriber, || {
            tracing::trace!(target: "keyferry::plan", "own");
            tracing::warn!(target: "kube_client::client", "canary body");
            tracing::warn!(target: "aws_smithy_runtime::client", "canary body");
            tracing::warn!(target: "hyper_util::client", "canary body");
            tracing::info!(target: "rustls::client", "canary body");
            tracing::error!(target: "kube_client::client::builder", "failed");
            tracing::warn!(target: "rustls", "odd certificate");
        });
        let text = lines.take();
        assert!(!text.contains("canary"), "{text}");
        assert_eq!(text.lines().count(), 3, "{text}");
    }

    #[test]
    fn a_line_is_one_flat_json_object() {
        let (subscriber, _handle, lines) = start(LogFormat::Json, Level::Info);
        tracing::subscriber::with_default(subscriber, || tracing::info!(external_secret = "a/b", "synced\nwell"));
        let text = lines.take();
        assert_eq!(text.lines().count(), 1);
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((line["external_secret"].as_str(), line["level"].as_str()), (Some("a/b"), Some("INFO")));
        assert_eq!(line["message"].as_str(), Some("synced\nwell"));
    }

    #[test]
    fn the_level_can_be_changed() {
        let (subscriber, handle, lines) = start(LogFormat::Text, Level::Info);
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!("unseen");
            handle.set(Level::Debug).unwrap();
            tracing::debug!("seen");
            handle.set(Level::Error).unwrap();
            tracing::warn!(target: "rustls", "unseen too");
            tracing::warn!("unseen too");
        });
        assert_eq!(handle.get(), Level::Error);
        let text = lines.take();
        assert!(text.contains("seen") && !text.contains("unseen"), "{text}");
    }

    #[test]
    fn a_panic_tells_where_and_not_what() {
        let (subscriber, _handle, lines) = start(LogFormat::Text, Level::Info);
        let before = std::panic::take_hook();
        log_panics();
        tracing::subscriber::with_default(subscriber, || {
            assert!(std::panic::catch_unwind(|| panic!("canary-value")).is_err());
        });
        std::panic::set_hook(before);
        let text = lines.take();
        assert!(text.contains("telemetry.rs") && !text.contains("canary-value"), "{text}");
    }
}
