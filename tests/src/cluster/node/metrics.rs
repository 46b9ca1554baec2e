//! containerd's own view of what its CNI plugin costs.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::Node;
use super::config::METRICS_PORT;

/// Calls of one kind so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Operations {
    /// How many ended, well or not.
    pub count: f64,
    /// Seconds that they took together.
    pub seconds: f64,
}

impl Operations {
    /// The calls since an earlier view.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self { count: self.count - earlier.count, seconds: self.seconds - earlier.seconds }
    }

    /// Both nodes' calls.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { count: self.count + other.count, seconds: self.seconds + other.seconds }
    }

    /// Milliseconds of a call in the mean; NaN of none.
    pub fn mean_ms(self) -> f64 {
        self.seconds / self.count * 1000.0
    }
}

impl Node {
    /// Calls of an operation, `set_up_pod` or `tear_down_pod`, since containerd started
    /// (`containerd_cri_network_plugin_operations_duration_seconds`).
    pub fn operations(&self, operation: &str) -> Operations {
        let text = self.containerd_metrics();
        let value = |kind: &str| {
            let name = format!("containerd_cri_network_plugin_operations_duration_seconds_seconds_{kind}{{");
            let line = text.lines().find(|line| line.starts_with(&name) && line.contains(&format!("\"{operation}\"")));
            line.and_then(|line| line.rsplit(' ').next()).map_or(0.0, |number| number.parse().unwrap())
        };
        Operations { count: value("count"), seconds: value("sum") }
    }

    /// Calls of the CNI plugin that failed since containerd started, of every kind
    /// (`containerd_cri_network_plugin_operations_errors_total`, to whose name the library adds what it ends with).
    pub fn failed_operations(&self) -> f64 {
        let text = self.containerd_metrics();
        let rows =
            text.lines().filter(|line| line.starts_with("containerd_cri_network_plugin_operations_errors_total"));
        rows.filter_map(|row| row.rsplit(' ').next()).map(|number| number.parse::<f64>().unwrap()).sum()
    }

    /// Everything that containerd counts, in the text form of Prometheus.
    pub fn containerd_metrics(&self) -> String {
        let mut stream = self.space().within(|| TcpStream::connect(("127.0.0.1", METRICS_PORT)).unwrap());
        stream.write_all(b"GET /v1/metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }
}
