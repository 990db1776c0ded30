//! Secrets, given directly or in a file that may be rewritten while chatsync runs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use parking_lot::RwLock;
use secrecy::{ExposeSecret, SecretString};

use super::problem::InvalidValue;

/// How long a pipe is waited for.
const PIPE_LIMIT: Duration = Duration::from_secs(5);

/// A secret. Clones share the value that was read last.
#[derive(Debug, Clone)]
pub struct Secret {
    current: Arc<RwLock<SecretString>>,
    file: Option<PathBuf>,
    /// The conversion to the form its users need.
    form: Option<Form>,
}

/// Checks a secret and converts it to another form.
type Form = fn(&str) -> Result<String, InvalidValue>;

impl Secret {
    /// Makes a secret that never changes.
    #[must_use]
    pub fn fixed(secret: SecretString) -> Self {
        Self { current: Arc::new(RwLock::new(secret)), file: None, form: None }
    }

    /// Reads a secret from a file, without the white space around it.
    pub(super) fn in_file(path: PathBuf) -> io::Result<Self> {
        let secret = read(&path)?;
        Ok(Self { current: Arc::new(RwLock::new(secret)), file: Some(path), form: None })
    }

    /// Converts the secret, now and whenever it is read again.
    pub(super) fn in_form(self, form: Form) -> Result<Self, InvalidValue> {
        let formed = SecretString::from(form(self.get().expose_secret())?);
        Ok(Self { current: Arc::new(RwLock::new(formed)), form: Some(form), ..self })
    }

    /// Returns the secret as it was read last.
    #[must_use]
    pub fn get(&self) -> SecretString {
        self.current.read().clone()
    }

    /// Returns another secret than `refused`, if there is one: another task has read it, or the file has changed.
    #[must_use]
    pub fn renewed(&self, refused: &SecretString) -> Option<SecretString> {
        let is_another = |secret: &SecretString| secret.expose_secret() != refused.expose_secret();
        let current = self.get();
        if is_another(&current) {
            return Some(current);
        }
        // Skip pipes: they can be read only once.
        let file = self.file.as_ref().filter(|file| file.is_file() || !file.exists())?;
        let read = match read(file) {
            Ok(secret) if !secret.expose_secret().is_empty() => secret,
            Ok(_) => {
                tracing::warn!(file = %file.display(), "a secret was refused, and its file is empty");
                return None;
            }
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "a secret was refused, and its file cannot be read");
                return None;
            }
        };
        let secret = match self.form {
            Some(form) => SecretString::from(form(read.expose_secret()).ok()?),
            None => read,
        };
        if !is_another(&secret) {
            return None;
        }
        tracing::info!(file = %file.display(), "replaced a refused secret by the new one in its file");
        *self.current.write() = secret.clone();
        Some(secret)
    }
}

/// Reads a text in the encodings that editors write: UTF-8, or UTF-16 with a byte order mark.
fn read(path: &Path) -> io::Result<SecretString> {
    let bytes = read_in_time(path)?;
    let utf16 = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        String::from_utf16(&bytes.chunks(2).map(|pair| unit([pair[0], *pair.get(1).unwrap_or(&0)])).collect::<Vec<_>>())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-16"))
    };
    let text = match bytes.as_slice() {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes)?,
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes)?,
        _ => String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))?,
    };
    Ok(SecretString::from(text.trim_start_matches('\u{feff}').trim().to_owned()))
}

/// Reads a file. A pipe whose writer does not come or end would keep even a signal waiting.
fn read_in_time(path: &Path) -> io::Result<Vec<u8>> {
    if fs::metadata(path)?.is_file() {
        return fs::read(path);
    }
    let (sender, receiver) = mpsc::channel();
    let file = path.to_owned();
    thread::spawn(move || sender.send(fs::read(file)));
    receiver.recv_timeout(PIPE_LIMIT).unwrap_or_else(|_| {
        let what = format!("it is no regular file, and gave no secret within {} s", PIPE_LIMIT.as_secs());
        Err(io::Error::new(io::ErrorKind::TimedOut, what))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_order_marks_and_white_space_do_not_belong_to_a_secret() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("secret");
        let utf16 = |unit: fn(u16) -> [u8; 2]| "\u{feff}hush \r\n".encode_utf16().flat_map(unit).collect::<Vec<u8>>();
        for bytes in [
            b"hush".to_vec(),
            b"\xef\xbb\xbfhush\r\n".to_vec(),
            b"\xef\xbb\xbf\n hush\n\n".to_vec(),
            utf16(u16::to_le_bytes),
            utf16(u16::to_be_bytes),
        ] {
            fs::write(&file, &bytes).expect("written");
            assert_eq!(read(&file).expect("text").expose_secret(), "hush", "{bytes:?}");
        }
        fs::write(&file, b"\xff\xfe\x00\xd8").expect("written");
        assert!(read(&file).is_err());
    }

    #[test]
    fn a_pipe_without_a_writer_ends_in_an_error() {
        let directory = tempfile::tempdir().expect("a directory");
        let pipe = directory.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs");
        assert!(made.success());
        let error = Secret::in_file(pipe).expect_err("nothing is written to it");
        assert!(error.to_string().contains("no regular file"), "{error}");
    }

    #[test]
    fn a_refused_secret_is_read_again_and_shared() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("secret");
        fs::write(&file, "old").expect("written");
        let secret = Secret::in_file(file.clone()).expect("a secret");
        let (old, other) = (secret.get(), secret.clone());
        assert!(secret.renewed(&old).is_none(), "nothing new");
        fs::write(&file, "").expect("written");
        assert!(secret.renewed(&old).is_none(), "in the middle of a rotation");
        fs::write(&file, "new").expect("written");
        assert_eq!(secret.renewed(&old).expect("another").expose_secret(), "new");
        fs::remove_file(&file).expect("removed");
        assert_eq!(other.renewed(&old).expect("read by the other").expose_secret(), "new");
        assert!(other.renewed(&other.get()).is_none());
        assert!(!format!("{secret:?}").contains("new"));
    }
}
