//! Bytes of a streamed body cut into frames: the data of server-sent events, or the lines of NDJSON. Pure.
//!
//! One splitter for both, since `eventsource-stream` (which our own feeds are read with) knows events only and drops
//! what a server leaves without its last empty line. Events follow "Interpreting an event stream" of the WHATWG HTML
//! standard; names, ids and retry times are of no use here, since providers repeat the kind inside the data.

use std::collections::VecDeque;

/// How a body is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// `text/event-stream`: frames are the data of events.
    Events,
    /// `application/x-ndjson`: frames are lines.
    Lines,
}

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Collects bytes, however they are cut; gives frames as soon as they are whole.
#[derive(Debug)]
pub(crate) struct Frames {
    framing: Framing,
    line: Vec<u8>,
    /// The last byte was a carriage return: a line feed right after it ends no second line.
    is_after_return: bool,
    is_first_line: bool,
    /// Data lines of the event that is being read.
    data: Option<String>,
    ready: VecDeque<String>,
}

impl Frames {
    pub(crate) fn new(framing: Framing) -> Self {
        Self {
            framing,
            line: Vec::new(),
            is_after_return: false,
            is_first_line: true,
            data: None,
            ready: VecDeque::new(),
        }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            let is_pair = self.is_after_return && byte == b'\n';
            self.is_after_return = byte == b'\r';
            match byte {
                b'\n' if is_pair => {}
                b'\n' | b'\r' => self.end_line(),
                _ => self.line.push(byte),
            }
        }
    }

    /// The next whole frame.
    pub(crate) fn next(&mut self) -> Option<String> {
        self.ready.pop_front()
    }

    /// After the last byte: what was not ended by its mark. It may be half of a frame.
    pub(crate) fn rest(mut self) -> Option<String> {
        if !self.line.is_empty() {
            self.end_line();
        }
        if self.framing == Framing::Events {
            self.end_event();
        }
        self.ready.pop_back()
    }

    fn end_line(&mut self) {
        let bytes = std::mem::take(&mut self.line);
        let is_first = std::mem::replace(&mut self.is_first_line, false);
        let bytes = match bytes.strip_prefix(BYTE_ORDER_MARK) {
            Some(rest) if is_first => rest,
            _ => &bytes,
        };
        // Whole lines hold whole letters. A server that cuts a letter itself spoils that letter, not the answer.
        let line = String::from_utf8_lossy(bytes);
        match self.framing {
            Framing::Lines if line.trim().is_empty() => {}
            Framing::Lines => self.ready.push_back(line.into_owned()),
            Framing::Events if line.is_empty() => self.end_event(),
            Framing::Events => self.take_field(&line),
        }
    }

    fn take_field(&mut self, line: &str) {
        // A comment begins with the colon: its field has no name.
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        if name != "data" {
            return;
        }
        let value = value.strip_prefix(' ').unwrap_or(value);
        match &mut self.data {
            Some(data) => {
                data.push('\n');
                data.push_str(value);
            }
            None => self.data = Some(value.to_owned()),
        }
    }

    fn end_event(&mut self) {
        // Empty data is a keep-alive of some servers.
        self.ready
            .extend(self.data.take().filter(|data| !data.trim().is_empty()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(framing: Framing, pieces: &[&[u8]]) -> (Vec<String>, Option<String>) {
        let mut frames = Frames::new(framing);
        let mut whole = Vec::new();
        for piece in pieces {
            frames.push(piece);
            whole.extend(std::iter::from_fn(|| frames.next()));
        }
        (whole, frames.rest())
    }

    #[test]
    fn events_are_cut_as_the_standard_says() {
        let text = "\u{feff}: hello\n\nevent: x\ndata: one\ndata:two\nid: 7\n\ndata\n\ndata:  three\r\n\r\ndata: four\r\rdata: five";
        let (whole, rest) = split(Framing::Events, &[text.as_bytes()]);
        assert_eq!(whole, ["one\ntwo", " three", "four"]);
        assert_eq!(rest.as_deref(), Some("five"), "without its empty line");
    }

    #[test]
    fn a_line_end_cut_in_two_is_one() {
        let (whole, rest) = split(Framing::Events, &[b"data: a\r", b"\ndata: b\r", b"\n\r", b"\n"]);
        assert_eq!((whole, rest), (vec!["a\nb".to_owned()], None));
    }

    #[test]
    fn lines_are_frames_and_letters_stay_whole() {
        let text = "{\"a\":\"ї\"}\n\n{\"b\":1}\r\n{\"c\"";
        let cut = text.find('ї').unwrap() + 1;
        let (whole, rest) = split(Framing::Lines, &[&text.as_bytes()[..cut], &text.as_bytes()[cut..]]);
        assert_eq!(whole, ["{\"a\":\"ї\"}", "{\"b\":1}"]);
        assert_eq!(rest.as_deref(), Some("{\"c\""));
    }

    #[test]
    fn nothing_is_left_after_whole_frames() {
        assert_eq!(split(Framing::Events, &[b"data: a\n\n: bye\n"]).1, None);
        assert_eq!(split(Framing::Lines, &[b"a\n"]).1, None);
        assert_eq!(split(Framing::Events, &[]).1, None);
    }
}
