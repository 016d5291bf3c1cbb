//! The dashboards and alerts of `grafana/`: what every panel must have, and what each of them shows of a real mesh by a
//! real Prometheus, while known things go wrong.

mod boards;
mod ground;
mod lint;
mod prometheus;
mod shown;
