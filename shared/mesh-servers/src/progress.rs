//! How long work tells a person that it is alive.

/// Receiver of progress; the caller decides whether it is a bar, lines or nothing.
pub trait Progress {
    /// A new step begins, in words for a person.
    fn step(&mut self, text: &str);

    /// Bytes of the current step that have arrived, out of how many when that is known.
    fn bytes(&mut self, done: u64, total: Option<u64>) {
        let _ = (done, total);
    }
}

/// Says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn step(&mut self, _text: &str) {}
}
