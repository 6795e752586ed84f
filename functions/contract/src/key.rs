//! Object keys as listings give them, read alike by controller and model-sync.

use std::collections::BTreeSet;

/// A key as `EncodingType=url` writes it: as in a form, a space is a `+`. None where it is no such text.
///
/// Listings are asked for in this encoding, because a key may hold characters that XML cannot: one such key
/// would make the whole listing unreadable.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>
#[must_use]
pub fn url_decoded(key: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(key.len());
    let mut rest = key.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                let mut value = [0];
                hex::decode_to_slice(digits, &mut value).ok()?;
                value[0]
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

/// Two keys that cannot both be files.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "object key {file:?} is also the folder of {inside:?}, and no file system can hold both; rename or remove one"
)]
pub struct FileAndFolder {
    /// The key that is a file.
    pub file: String,
    /// The key below it.
    pub inside: String,
}

/// Checks that no path is also the folder of another.
///
/// # Errors
/// [`FileAndFolder`] names the first two that collide.
pub fn no_file_is_a_folder<'a>(paths: impl IntoIterator<Item = &'a str>) -> Result<(), FileAndFolder> {
    let files: BTreeSet<&str> = paths.into_iter().collect();
    for inside in &files {
        for (end, _) in inside.match_indices('/') {
            if let Some(file) = files.get(&inside[..end]) {
                return Err(FileAndFolder { file: (*file).to_owned(), inside: (*inside).to_owned() });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_decoded_as_forms_are() {
        for (encoded, want) in [
            ("a/b.onnx", Some("a/b.onnx")),
            ("a+b%2Bc%20d", Some("a b+c d")),
            ("%C3%BC%00%1f", Some("ü\0\u{1f}")),
            ("%e2%82%AC", Some("€")),
            ("%", None),
            ("a%2", None),
            ("%zz", None),
            ("%ff", None),
        ] {
            assert_eq!(url_decoded(encoded).as_deref(), want, "{encoded}");
        }
    }

    #[test]
    fn a_file_is_no_folder() {
        let check =
            |paths: &[&str]| no_file_is_a_folder(paths.iter().copied()).map_err(|e| (e.file, e.inside));
        let both = |file: &str, inside: &str| Err((file.to_owned(), inside.to_owned()));
        assert_eq!(check(&["a/b", "a.b", "ab/c", "a/c"]), Ok(()));
        assert_eq!(check(&["a", "a/b"]), both("a", "a/b"));
        assert_eq!(check(&["a/b/c", "a.b", "a"]), both("a", "a/b/c"));
    }
}
