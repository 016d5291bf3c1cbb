//! What the compressed streams of a PDF unpack to, counted before anything is unpacked for good: a file of a few
//! kilobytes may hold gigabytes. Nothing of the output is kept.

use std::time::Instant;

use flate2::{Decompress, FlushDecompress, Status};

/// Bytes that all streams of a file may unpack to. Scanned pages and screenshots are the largest honest ones.
pub(super) const UNPACKED_BYTES_MAX: usize = 128 * 1024 * 1024;
const BUFFER_BYTES: usize = 64 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    Fits,
    TooHeavy,
    TooSlow,
}

/// Unpacks whatever begins after the word `stream`, since that is where a reader would.
pub(super) fn weigh(file: &[u8], deadline: Instant) -> Weight {
    if may_hide_objects(file) {
        return Weight::TooHeavy;
    }
    let mut left = UNPACKED_BYTES_MAX;
    let mut buffer = vec![0; BUFFER_BYTES];
    for place in places(file, b"stream") {
        let data = &file[place + b"stream".len()..];
        let data = data.strip_prefix(b"\r").unwrap_or(data);
        let data = data.strip_prefix(b"\n").unwrap_or(data);
        match unpacked(data, left, &mut buffer, deadline) {
            Some(bytes) => left -= bytes,
            None if Instant::now() >= deadline => return Weight::TooSlow,
            None => return Weight::TooHeavy,
        }
    }
    Weight::Fits
}

/// Bytes that come out, as far as it is a stream at all; `None` for more than `left`, or when the time is over.
fn unpacked(data: &[u8], left: usize, buffer: &mut [u8], deadline: Instant) -> Option<usize> {
    let mut inflate = Decompress::new(true);
    loop {
        let (before_in, before_out) = (inflate.total_in(), inflate.total_out());
        let input = data.get(usize::try_from(before_in).ok()?..).unwrap_or_default();
        let status = inflate.decompress(input, buffer, FlushDecompress::None);
        let bytes = usize::try_from(inflate.total_out()).ok()?;
        if bytes > left || Instant::now() >= deadline {
            return None;
        }
        let has_moved = (inflate.total_in(), inflate.total_out()) != (before_in, before_out);
        if !matches!(status, Ok(Status::Ok)) || !has_moved {
            return Some(bytes);
        }
    }
}

/// Filters that are not weighed here (LZW, Brotli) together with streams of objects, which are unpacked as the file is
/// opened: no honest program writes both.
fn may_hide_objects(file: &[u8]) -> bool {
    let plain = unescaped(file);
    let has = |word: &[u8]| places(&plain, word).next().is_some();
    (has(b"LZW") || has(b"Brotli")) && (has(b"ObjStm") || has(b"XRef"))
}

/// Names may write any letter as `#` and two hexadecimal digits.
fn unescaped(file: &[u8]) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut plain = Vec::with_capacity(file.len());
    let mut at = 0;
    while let Some(byte) = file.get(at) {
        match (byte, digit(file.get(at + 1)), digit(file.get(at + 2))) {
            (b'#', Some(high), Some(low)) => {
                plain.push(u8::try_from(high * 16 + low).unwrap_or(b'#'));
                at += 3;
            }
            _ => {
                plain.push(*byte);
                at += 1;
            }
        }
    }
    plain
}

fn places<'a>(file: &'a [u8], word: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let first = word[0];
    file.iter()
        .enumerate()
        .filter(move |(at, byte)| **byte == first && file[*at..].starts_with(word))
        .map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use flate2::Compression;
    use flate2::write::ZlibEncoder;

    use super::*;

    fn packed(bytes: usize) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        let zeros = vec![0; 1024 * 1024];
        for _ in 0..bytes / zeros.len() {
            encoder.write_all(&zeros).unwrap();
        }
        encoder.finish().unwrap()
    }

    fn file(streams: &[Vec<u8>]) -> Vec<u8> {
        let mut file = b"%PDF-1.5\n".to_vec();
        for stream in streams {
            file.extend(b"1 0 obj <</Filter /FlateDecode>> stream\r\n");
            file.extend(stream);
            file.extend(b"\nendstream endobj\n");
        }
        file
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(120)
    }

    #[test]
    fn bombs_are_seen_before_they_go_off() {
        let small = packed(1024 * 1024);
        assert_eq!(weigh(&file(&[small.clone(), small]), soon()), Weight::Fits);
        let part = packed(48 * 1024 * 1024);
        assert!(part.len() < 100_000);
        assert_eq!(weigh(&file(&[part.clone(), part.clone()]), soon()), Weight::Fits);
        assert_eq!(
            weigh(&file(&[part.clone(), part.clone(), part]), soon()),
            Weight::TooHeavy
        );
    }

    #[test]
    fn filters_that_are_not_weighed_are_refused_where_objects_may_be_packed() {
        assert_eq!(weigh(b"%PDF /LZWDecode", soon()), Weight::Fits);
        assert_eq!(weigh(b"%PDF /L#5AWDecode /Obj#53tm", soon()), Weight::TooHeavy);
        assert_eq!(weigh(b"%PDF /BrotliDecode /XRef", soon()), Weight::TooHeavy);
    }

    #[test]
    fn the_time_is_watched() {
        let late = Instant::now();
        assert_eq!(weigh(&file(&[packed(1024 * 1024)]), late), Weight::TooSlow);
    }
}
