//! report/metrics
