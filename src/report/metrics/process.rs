//! What the process uses, by the names that Prometheus' own client libraries give it. Read from `/proc` at each scrape; what cannot be
//! read is left out.

use std::fmt;
use std::fs;

use k8s_openapi::jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Ticks a second in `/proc/self/stat`: Linux' `USER_HZ`, part of its interface to programs on every architecture that we build for.
const TICKS_PER_SECOND: f64 = 100.0;

/// The process.
#[derive(Debug)]
pub(super) struct Process {
    started: f64,
}

impl Process {
    /// This process, which has just been started.
    pub(super) fn start() -> Self {
        Self { started: Timestamp::now().duration_since(Timestamp::UNIX_EPOCH).as_secs_f64() }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        if let Some(seconds) = cpu_seconds(&stat) {
            let out = encoder.encode_descriptor("process_cpu_seconds", "CPU time used", None, MetricType::Counter)?;
            ConstCounter::new(seconds).encode(out)?;
        }
        let gauges = [
            ("process_resident_memory_bytes", "Memory in use", kibibytes(&status, "VmRSS:")),
            ("process_virtual_memory_bytes", "Memory mapped", kibibytes(&status, "VmSize:")),
            ("process_start_time_seconds", "When the process started, in seconds since 1970", Some(self.started)),
            ("process_open_fds", "Open files", open_files()),
        ];
        for (name, help, value) in gauges {
            if let Some(value) = value {
                ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
            }
        }
        Ok(())
    }
}

/// User and system time: fields 14 and 15 of proc(5)'s stat, counted behind the command, which may hold spaces.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

/// A line of proc(5)'s status, as bytes.
fn kibibytes(status: &str, field: &str) -> Option<f64> {
    let value = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: f64 = value.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kib * 1024.0)
}

fn open_files() -> Option<f64> {
    let count = fs::read_dir("/proc/self/fd").ok()?.count();
    // One of them is the directory that was just read.
    u32::try_from(count).ok().map(|n| f64::from(n.saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 4 0 100 1 1";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("7 (a"), None);
        let status = "VmSize:\t    2048 kB\nVmRSS:\t 10 kB\n";
        assert_eq!((kibibytes(status, "VmRSS:"), kibibytes(status, "VmSwap:")), (Some(10_240.0), None));
        assert!(open_files().is_some_and(|n| n >= 1.0));
    }
}
