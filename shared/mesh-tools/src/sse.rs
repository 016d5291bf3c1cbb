//! Server-sent events of a stream that nobody vouches for: one event is bounded, whatever is sent.

/// Collects bytes into the data of events.
#[derive(Debug)]
pub(crate) struct Events {
    line: Vec<u8>,
    data: String,
    bytes_max: usize,
}

/// An event grew past the bound.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

impl Events {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            line: Vec::new(),
            data: String::new(),
            bytes_max,
        }
    }

    /// The data of each event that is complete with these bytes.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Result<Vec<String>, TooLong> {
        let mut complete = Vec::new();
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.keep(&bytes[..end])?;
            bytes = &bytes[end + 1..];
            let line = std::mem::take(&mut self.line);
            complete.extend(self.line(&String::from_utf8_lossy(&line)));
        }
        self.keep(bytes)?;
        Ok(complete)
    }

    /// Data that the end of the stream has cut off from its empty line.
    pub(crate) fn rest(mut self) -> Option<String> {
        let line = std::mem::take(&mut self.line);
        self.line(&String::from_utf8_lossy(&line)).or_else(|| self.line(""))
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        if self.line.len() + self.data.len() + bytes.len() > self.bytes_max {
            return Err(TooLong);
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn line(&mut self, line: &str) -> Option<String> {
        let line = line.trim_end_matches('\r');
        if line.is_empty() {
            let data = std::mem::take(&mut self.data);
            return (!data.is_empty()).then_some(data);
        }
        if let Some(data) = line.strip_prefix("data:") {
            if !self.data.is_empty() {
                self.data.push('\n');
            }
            self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_the_same_however_their_bytes_are_cut() {
        let stream = ": hello\ndata: {\"text\":\"при\"}\n\nevent: x\r\ndata:a\r\ndata:  b\r\n\r\nid: 7\n\ndata: last";
        for size in 1..stream.len() {
            let mut events = Events::new(1_000);
            let mut seen = Vec::new();
            for part in stream.as_bytes().chunks(size) {
                seen.extend(events.feed(part).unwrap());
            }
            seen.extend(events.rest());
            assert_eq!(seen, ["{\"text\":\"при\"}", "a\n b", "last"], "{size}");
        }
    }

    #[test]
    fn an_event_without_an_end_is_refused_at_the_bound() {
        let mut events = Events::new(10);
        assert_eq!(events.feed(b"data: 1234"), Ok(vec![]));
        assert_eq!(events.feed(b"5"), Err(TooLong));
        let mut events = Events::new(10);
        for _ in 0..3 {
            assert_eq!(events.feed(b"data: a\n\n"), Ok(vec!["a".to_owned()]));
        }
        assert_eq!(
            Events::new(10).feed(b"data:1\ndata:2\ndata:3\ndata:4\ndata:5\ndata:6\n"),
            Err(TooLong)
        );
    }
}
