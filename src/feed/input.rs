//! Reads the bytes of a feed as UTF-8 text: decompresses gzip, converts UTF-16, refuses everything else.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use encoding_rs::{Encoding, UTF_16BE, UTF_16LE};
use encoding_rs_io::DecodeReaderBytesBuilder;
use flate2::read::MultiGzDecoder;

use super::error::{FeedError, NotAList};

/// The longest line that is read, in bytes: far above any valid one, so that a file without line breaks does not fill
/// the memory.
pub const MAX_LINE_BYTES: usize = 64 * 1024;

/// Number of bytes that decide the format.
const SAMPLE_BYTES: u64 = 64 * 1024;

const SAVE_AS_CSV: &str = "save it as CSV (UTF-8) and feed that";
const UNPACK: &str = "decompress it and feed its content";
const EXPORT: &str = "export it as CSV and feed that";

/// The first bytes of other kinds of files, their names, and what to do with them.
const SIGNATURES: [(&[u8], &str, &str); 20] = [
    (b"b3JkZXJf", "base64", "decode it (base64 -d) and feed its content"),
    (b"PK\x03\x04", "a zip file or an Excel workbook (xlsx)", SAVE_AS_CSV),
    (b"PK\x05\x06", "an empty zip file", SAVE_AS_CSV),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook (xls)", SAVE_AS_CSV),
    (b"PAR1", "a Parquet file", EXPORT),
    (b"ORC", "an ORC file", EXPORT),
    (b"Obj\x01", "an Avro file", EXPORT),
    (b"ARROW1", "an Arrow file", EXPORT),
    (b"SQLite format 3\0", "an SQLite database", EXPORT),
    (b"PGDMP", "a PostgreSQL dump", EXPORT),
    (b"PGCOPY\n\xff\r\n\0", "PostgreSQL's binary COPY format", EXPORT),
    (b"%PDF", "a PDF document", SAVE_AS_CSV),
    (b"{\\rtf", "an RTF document", SAVE_AS_CSV),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", UNPACK),
    (b"BZh", "compressed with bzip2", UNPACK),
    (b"\xfd7zXZ\0", "compressed with xz", UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (b"\x04\x22\x4d\x18", "compressed with lz4", UNPACK),
    (b"\xff\xfe\0\0", "UTF-32 text", "save it as UTF-8"),
    (b"\0\0\xfe\xff", "UTF-32 text", "save it as UTF-8"),
];

/// A feed, and a copy of its beginning.
pub(super) struct Sampled<R: ?Sized = dyn Read + Send> {
    pub(super) sample: Vec<u8>,
    /// Whether the sample is the whole feed.
    pub(super) is_whole: bool,
    /// The whole feed, including the sample.
    pub(super) input: Box<R>,
}

/// Reads the beginning of `input` and finds out how to read it as text. Only the sample is known to be text.
pub(super) fn open(input: impl Read + Send + 'static) -> Result<Sampled<dyn BufRead + Send>, FeedError> {
    let raw = Sampled::of(input)?;
    if !raw.sample.starts_with(b"\x1f\x8b") {
        return raw.decode();
    }
    let unpacked = Sampled::of(MultiGzDecoder::new(raw.input))?;
    if unpacked.sample.starts_with(b"\x1f\x8b") {
        return Err(NotAList::new("it is compressed twice", UNPACK).into());
    }
    unpacked.decode()
}

impl Sampled {
    fn of(mut input: impl Read + Send + 'static) -> Result<Self, FeedError> {
        let mut sample = Vec::new();
        let read = input.by_ref().take(SAMPLE_BYTES).read_to_end(&mut sample);
        let beginning = Cursor::new(sample.clone());
        match read {
            // Do not ask for more: a terminal would want its end a second time.
            Ok(read) if (read as u64) < SAMPLE_BYTES => Ok(Self { input: Box::new(beginning), sample, is_whole: true }),
            Ok(_) => Ok(Self { input: Box::new(beginning.chain(input)), sample, is_whole: false }),
            Err(source) if sample.is_empty() => Err(FeedError::Read { line: 1, source }),
            // What came before is read first.
            Err(source) => Ok(Self { input: Box::new(beginning.chain(Broken(Some(source)))), sample, is_whole: false }),
        }
    }

    fn decode(self) -> Result<Sampled<dyn BufRead + Send>, FeedError> {
        if let Some((_, what, hint)) = SIGNATURES.iter().find(|(signature, ..)| self.sample.starts_with(signature)) {
            return Err(NotAList::new(format!("it is {what}"), *hint).into());
        }
        if self.sample.get(257..262) == Some(b"ustar") {
            return Err(NotAList::new("it is a tar archive", UNPACK).into());
        }
        let Self { sample, is_whole, input } = match utf16(&self.sample) {
            Some(encoding) => {
                let mut decoder = DecodeReaderBytesBuilder::new();
                Self::of(decoder.encoding(Some(encoding)).bom_sniffing(false).build(self.input))?
            }
            None => self,
        };
        if !is_text(&sample, is_whole) {
            let hint = "feed one order id per line, CSV with a header, or JSON, in UTF-8 or UTF-16";
            return Err(NotAList::new("it is not text", hint).into());
        }
        Ok(Sampled { input: Box::new(BufReader::new(input)), sample, is_whole })
    }
}

/// Fails once with this error, and ends.
struct Broken(Option<io::Error>);

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}

/// Detects UTF-16 by its byte order mark, or because every other byte of ASCII text is zero.
fn utf16(raw: &[u8]) -> Option<&'static Encoding> {
    match raw {
        [0xff, 0xfe, ..] => return Some(UTF_16LE),
        [0xfe, 0xff, ..] => return Some(UTF_16BE),
        _ => {}
    }
    let (pairs, _) = raw.as_chunks::<2>();
    let are =
        |is_zero: [bool; 2]| !pairs.is_empty() && pairs.iter().all(|[one, other]| [*one == 0, *other == 0] == is_zero);
    if are([false, true]) {
        Some(UTF_16LE)
    } else if are([true, false]) {
        Some(UTF_16BE)
    } else {
        None
    }
}

/// Returns whether at least half of the lines are text. Single lines that are not are rejected later.
fn is_text(sample: &[u8], is_whole: bool) -> bool {
    let mut lines: Vec<&[u8]> = sample.split(|byte| *byte == b'\n').collect();
    if !is_whole && lines.len() > 1 {
        // The sample may end within a character of the last line.
        lines.pop();
    }
    let is_bad = |line: &&[u8]| {
        let text = match std::str::from_utf8(line) {
            Ok(text) => text,
            // The only line may end so as well.
            Err(error) if error.error_len().is_none() && !is_whole => "",
            Err(_) => return true,
        };
        text.chars().any(|c| c.is_ascii_control() && !matches!(c, '\t' | '\r'))
    };
    let filled = lines.iter().filter(|line| !line.trim_ascii().is_empty());
    let (mut all, mut bad) = (0, 0);
    for line in filled {
        all += 1;
        bad += usize::from(is_bad(line));
    }
    bad * 2 <= all
}
