//! What the operator has done and used so far: by its own metrics, by the kernel, and by the API server's count.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use kube::Client;

use super::stand_in::StandIn;
use crate::operator::Operator;

/// Clock ticks a second in `/proc/<pid>/stat`: Linux' `USER_HZ`.
const TICKS_PER_SECOND: f64 = 100.0;

/// One reading. The difference of two says what was done in between.
pub struct Reading {
    /// When it was taken.
    pub at: Instant,
    operator: Vec<Sample>,
    api_server: Vec<Sample>,
    provider_calls: u64,
    /// CPU time when the reading began, and when it was over: being read is no work of the operator's.
    cpu: (Duration, Duration),
    /// Resident memory, and the most that it ever was, in MiB.
    pub memory: Memory,
}

/// Resident memory, in MiB.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Memory {
    /// Now.
    pub resident: f64,
    /// The most since the process started.
    pub peak: f64,
}

impl Reading {
    /// Reads everything now.
    ///
    /// # Errors
    /// When the operator or the API server does not answer.
    pub async fn take(operator: &Operator, api_server: &Client, provider: &StandIn) -> Result<Self> {
        let (begun, memory) = (cpu(operator.pid())?, memory(operator.pid())?);
        let mut reading = Self::before(api_server, provider).await?;
        let operator_metrics = operator.metrics().await?;
        let mut own = samples(&operator_metrics, "keyferry_api_requests_total");
        own.extend(samples(&operator_metrics, "externalsecret_sync_calls_total"));
        (reading.operator, reading.memory) = (own, memory);
        reading.cpu = (begun, cpu(operator.pid())?);
        Ok(reading)
    }

    /// The reading before an operator starts.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn before(api_server: &Client, provider: &StandIn) -> Result<Self> {
        let request = hyper::Request::get("/metrics").body(Vec::new())?;
        let api_server = samples(&api_server.request_text(request).await?, "apiserver_request_total");
        let provider_calls = provider.calls().values().sum();
        Ok(Self {
            at: Instant::now(),
            operator: Vec::new(),
            api_server,
            provider_calls,
            cpu: (Duration::ZERO, Duration::ZERO),
            memory: Memory { resident: 0.0, peak: 0.0 },
        })
    }

    /// What was done between an earlier reading and this one.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Work {
        let of = |name: &str, reading: &Self, wanted: &dyn Fn(&Sample) -> bool| {
            reading.operator.iter().filter(|s| s.name == name && wanted(s)).map(|s| s.value).sum::<f64>()
        };
        let own = |name: &str, wanted: &dyn Fn(&Sample) -> bool| of(name, self, wanted) - of(name, earlier, wanted);
        let api_server = |reading: &Self, verbs: &[&str], resources: &[&str]| {
            let wanted = |s: &&Sample| verbs.contains(&s.label("verb")) && resources.contains(&s.label("resource"));
            reading.api_server.iter().filter(wanted).map(|s| s.value).sum::<f64>()
        };
        let counted =
            |verbs: &[&str], resources: &[&str]| api_server(self, verbs, resources) - api_server(earlier, verbs, resources);
        let of_secrets = |s: &Sample| s.label("resource") == "secrets" && matches!(s.label("verb"), "get" | "list");
        Work {
            requests: own("keyferry_api_requests_total", &|_| true),
            secret_reads: own("keyferry_api_requests_total", &of_secrets),
            secret_gets_served: counted(&["GET"], &["secrets"]),
            secret_lists_served: counted(&["LIST"], &["secrets"]),
            writes_served: counted(&["APPLY", "PATCH", "POST", "PUT"], &["secrets", "externalsecrets", "events"]),
            refreshes: own("externalsecret_sync_calls_total", &|_| true),
            provider_calls: self.provider_calls - earlier.provider_calls,
            cpu: self.cpu.0.saturating_sub(earlier.cpu.1),
        }
    }
}

/// What was done between two readings.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    /// The operator's requests to the API server.
    pub requests: f64,
    /// Those of them that read Secrets.
    pub secret_reads: f64,
    /// Reads of one Secret each that the API server counted, whoever asked.
    pub secret_gets_served: f64,
    /// Pages of lists of Secrets that the API server counted, whoever asked: the operator's hold metadata only (a test of the
    /// suite looks at what is answered).
    pub secret_lists_served: f64,
    /// Writes of Secrets, ExternalSecrets and events that the API server counted, whoever asked.
    pub writes_served: f64,
    /// Syncs of ExternalSecrets.
    pub refreshes: f64,
    /// Calls that the provider counted.
    pub provider_calls: u64,
    /// The operator's CPU time.
    pub cpu: Duration,
}

/// A line of a Prometheus exposition.
#[derive(Debug, PartialEq)]
struct Sample {
    name: String,
    labels: String,
    value: f64,
}

impl Sample {
    /// The value of a label, as it is written; empty where there is none.
    fn label(&self, name: &str) -> &str {
        // What comes before a label's name is `{` or `,`: `resource` is not the end of `subresource`.
        let starts = self.labels.match_indices(name).map(|(at, _)| at);
        let starts = starts.filter(|at| *at == 0 || self.labels.as_bytes().get(at - 1) == Some(&b','));
        let value = |at: usize| self.labels.get(at + name.len()..)?.strip_prefix("=\"")?.split_once('"').map(|(v, _)| v);
        starts.filter_map(value).next().unwrap_or_default()
    }
}

/// The samples of one metric.
fn samples(text: &str, metric: &str) -> Vec<Sample> {
    let sample = |line: &str| {
        let rest = line.strip_prefix(metric)?;
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.rsplit_once('}')?,
            None => ("", rest),
        };
        let value = value.strip_prefix(' ')?.split(' ').next()?.parse().ok()?;
        Some(Sample { name: metric.to_owned(), labels: labels.to_owned(), value })
    };
    text.lines().filter_map(sample).collect()
}

fn cpu(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the operator is gone")?;
    cpu_of(&stat).ok_or_else(|| anyhow!("/proc/{pid}/stat is not as proc(5) has it"))
}

/// User and system time: fields 14 and 15, counted from behind the name, which may hold spaces.
fn cpu_of(stat: &str) -> Option<Duration> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some(Duration::from_secs_f64((user + system) / TICKS_PER_SECOND))
}

fn memory(pid: u32) -> Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the operator is gone")?;
    memory_of(&status).ok_or_else(|| anyhow!("/proc/{pid}/status is not as proc(5) has it"))
}

fn memory_of(status: &str) -> Option<Memory> {
    let mebibytes = |field: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(field))?;
        let kibibytes: f64 = value.split_ascii_whitespace().next()?.parse().ok()?;
        Some(kibibytes / 1024.0)
    };
    Some(Memory { resident: mebibytes("VmRSS:")?, peak: mebibytes("VmHWM:")? })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_one_metric_and_no_other() {
        let text = "# TYPE a counter\n\
                    a_total{subresource=\"status\",resource=\"x\",verb=\"get\"} 3\n\
                    a_total_more{resource=\"x\"} 9\n\
                    a_total 4.5 1700000000\n";
        let found = samples(text, "a_total");
        assert_eq!(found.iter().map(|s| s.value).collect::<Vec<_>>(), [3.0, 4.5]);
        assert_eq!(["resource", "subresource", "verb", "none"].map(|l| found[0].label(l)), ["x", "status", "get", ""]);
    }

    #[test]
    fn what_proc_says() {
        let stat = "42 (key ferry)) S 1 42 42 0 -1 4194560 9 0 0 0 150 50 0 0 20 0 9 0 100 1 1";
        assert_eq!(cpu_of(stat), Some(Duration::from_secs(2)));
        let status = "Name:\tkeyferry\nVmHWM:\t   20480 kB\nVmRSS:\t   10240 kB\n";
        assert_eq!(memory_of(status), Some(Memory { resident: 10.0, peak: 20.0 }));
        assert_eq!(memory_of("Name: x"), None);
    }
}
