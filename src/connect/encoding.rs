//! Decompression of reply bodies.
//!
//! The whole body is read first and decompressed afterwards, piece by piece. So a body that does not match its
//! `Content-Encoding` can still be kept as it came. reqwest would decompress while reading, and report such a body as
//! a broken connection. Pure: no I/O.

use std::io::{self, Read};

use brotli_decompressor::Decompressor;
use flate2::bufread::GzDecoder;
use reqwest::header::{CONTENT_ENCODING, HeaderMap};
use serde::de::IgnoredAny;

use super::text::without_bom;

/// The value of `Accept-Encoding`.
pub(super) const ACCEPTED: &str = "gzip, br";

/// Size of the Brotli decoder's input buffer, in bytes.
const BUFFER: usize = 4096;
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
    Brotli,
    /// An encoding that was not requested, or several on top of each other.
    Unknown,
}

impl Encoding {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut names = headers
            .get_all(CONTENT_ENCODING)
            .iter()
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case(b"identity"));
        let Some(name) = names.next() else { return Self::Identity };
        match name.to_ascii_lowercase().as_slice() {
            _ if names.next().is_some() => Self::Unknown,
            b"gzip" | b"x-gzip" => Self::Gzip,
            b"br" => Self::Brotli,
            _ => Self::Unknown,
        }
    }

    /// Returns a reader of the decompressed body; `None` if the encoding is unknown.
    ///
    /// A body that is already JSON is not compressed, whatever its header says: a gateway decompressed it and left the
    /// header. Neither gzip nor Brotli output is JSON by chance.
    pub(super) fn decoder(self, body: &[u8]) -> Option<Box<dyn Read + Send + '_>> {
        match self {
            // A reply without a body may still name the encoding it would have had.
            _ if self == Self::Identity || body.is_empty() || is_json(body) => Some(Box::new(body)),
            Self::Gzip => Some(Box::new(Members(GzDecoder::new(body)))),
            Self::Brotli => Some(Box::new(Decompressor::new(body, BUFFER))),
            Self::Identity | Self::Unknown => None,
        }
    }
}

/// Needs a few bytes of memory, however large the body is.
fn is_json(body: &[u8]) -> bool {
    let text = without_bom(body).trim_ascii_start();
    text.starts_with(b"{") && serde_json::from_slice::<IgnoredAny>(text).is_ok()
}

/// A gzip stream of one or more members. Some servers leave padding behind the last one; bytes after it that are no
/// member are ignored.
struct Members<'a>(GzDecoder<&'a [u8]>);

impl Read for Members<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.0.read(buffer)?;
            let rest: &[u8] = self.0.get_ref();
            if count > 0 || buffer.is_empty() || !rest.starts_with(GZIP_MAGIC) {
                return Ok(count);
            }
            self.0 = GzDecoder::new(rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use reqwest::header::HeaderValue;

    use super::*;

    const TEXT: &[u8] = br#"{"chat_messages":[]}"#;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).expect("into memory");
        encoder.finish().expect("into memory")
    }

    fn brotli(text: &[u8]) -> Vec<u8> {
        let mut compressed = Vec::new();
        brotli::CompressorWriter::new(&mut compressed, 4_096, 1, 22).write_all(text).expect("into memory");
        compressed
    }

    fn encoding_of(values: &[&'static str]) -> Encoding {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CONTENT_ENCODING, HeaderValue::from_static(value));
        }
        Encoding::of(&headers)
    }

    fn decoded(encoding: Encoding, body: &[u8]) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        encoding.decoder(body)?.read_to_end(&mut text).ok()?;
        Some(text)
    }

    #[test]
    fn encoding_names_are_read_as_http_writes_them() {
        for plain in [&[][..], &["identity"], &[""], &[" , Identity ,"], &["identity", "identity"]] {
            assert_eq!(encoding_of(plain), Encoding::Identity, "{plain:?}");
        }
        for gzip in [&["gzip"][..], &["GZip"], &["x-gzip"], &["identity, gzip"], &["gzip", "identity"]] {
            assert_eq!(encoding_of(gzip), Encoding::Gzip, "{gzip:?}");
        }
        assert_eq!(encoding_of(&[" BR "]), Encoding::Brotli);
        for unknown in [&["rot13"][..], &["deflate"], &["zstd"], &["gzip, br"], &["gzip", "gzip"], &["gzip;q=1"]] {
            assert_eq!(encoding_of(unknown), Encoding::Unknown, "{unknown:?}");
        }
    }

    #[test]
    fn whole_streams_are_decoded_including_what_gzip_allows_after_them() {
        assert_eq!(decoded(Encoding::Brotli, &brotli(TEXT)).as_deref(), Some(TEXT));
        let (begin, end) = TEXT.split_at(7);
        let members = [gzip(begin), gzip(b""), gzip(end)].concat();
        for body in [gzip(TEXT), members, [&gzip(TEXT)[..], b"\0\0\0\0"].concat(), [&gzip(TEXT)[..], b"\r\n"].concat()]
        {
            assert_eq!(decoded(Encoding::Gzip, &body).as_deref(), Some(TEXT));
        }
    }

    #[test]
    fn a_body_that_is_already_json_is_not_decoded() {
        let with_mark = [b"\xef\xbb\xbf".as_slice(), TEXT].concat();
        for encoding in [Encoding::Identity, Encoding::Gzip, Encoding::Brotli, Encoding::Unknown] {
            for body in [TEXT, b" \n{}", &with_mark, b""] {
                assert_eq!(decoded(encoding, body).as_deref(), Some(body), "{encoding:?}");
            }
        }
    }

    #[test]
    fn a_body_that_does_not_match_its_encoding_is_not_decoded() {
        let (whole, brotli) = (gzip(TEXT), brotli(TEXT));
        let mut spoilt = whole.clone();
        let sum = spoilt.len() - 8;
        spoilt[sum] ^= 1;
        let half_a_member = [&whole[..], &whole[..12]].concat();
        for body in [&b"<html>"[..], &whole[..whole.len() - 1], &whole[..5], &spoilt, &half_a_member, &brotli, b"\x1f"]
        {
            assert_eq!(decoded(Encoding::Gzip, body), None, "{body:?}");
        }
        for body in [&b"<html>caf\xe9"[..], &brotli[..brotli.len() - 1], &whole, &[0xff; 40]] {
            assert_eq!(decoded(Encoding::Brotli, body), None, "{body:?}");
        }
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(TEXT).expect("into memory");
        let mut deflate = DeflateEncoder::new(Vec::new(), Compression::fast());
        deflate.write_all(TEXT).expect("into memory");
        for body in [zlib.finish().expect("into memory"), deflate.finish().expect("into memory"), whole] {
            assert_eq!(decoded(Encoding::Unknown, &body), None);
        }
    }
}
