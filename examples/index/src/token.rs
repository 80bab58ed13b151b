//! Splits source text into words: identifiers, as most languages spell them.

/// A word longer than this many bytes is no identifier but data (base64, hashes); it is left out.
const LONGEST_WORD: usize = 64;

/// The words of `line`, in order.
///
/// A word starts with a letter, `_`, or a byte outside ASCII (so that identifiers in any script
/// count, whatever their normalisation), and goes on with those and digits. Text that starts with
/// a digit is a number, together with its suffix. Words of a single byte are left out.
pub(crate) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|&byte| !is_word_byte(byte))
        .filter(|word| (2..=LONGEST_WORD).contains(&word.len()) && !word.first().is_some_and(u8::is_ascii_digit))
}

fn is_word_byte(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric() || !byte.is_ascii()
}

/// Whether this is the start of a text file. A NUL byte says that it is not.
pub(crate) fn is_text(start: &[u8]) -> bool {
    !start.iter().take(8192).any(|&byte| byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &str) -> Vec<&str> {
        words(line.as_bytes()).map(|word| std::str::from_utf8(word).unwrap()).collect()
    }

    #[test]
    fn punctuation_separates_words() {
        assert_eq!(split("let foo_bar = Baz::qux(&self.it);"), ["let", "foo_bar", "Baz", "qux", "self", "it"]);
    }

    #[test]
    fn numbers_are_not_words_even_with_a_suffix() {
        assert_eq!(split("42 0x1fu64 1e9 x86 _1"), ["x86", "_1"]);
    }

    #[test]
    fn single_bytes_and_overlong_words_are_left_out() {
        let longest = "x".repeat(LONGEST_WORD);
        let too_long = "x".repeat(LONGEST_WORD + 1);
        assert_eq!(split(&format!("a {longest} {too_long} b")), [longest]);
    }

    #[test]
    fn letters_outside_ascii_belong_to_words() {
        assert_eq!(split("größe = ширина×2"), ["größe", "ширина×2"]);
    }

    #[test]
    fn bytes_that_are_not_utf8_are_no_obstacle() {
        let all: Vec<&[u8]> = words(b"ok \xff\xfe ok2").collect();
        assert_eq!(all, [b"ok".as_slice(), b"\xff\xfe", b"ok2"]);
    }

    #[test]
    fn an_empty_line_has_no_words() {
        assert!(split("").is_empty());
        assert!(split(" \t;;; ").is_empty());
    }

    #[test]
    fn a_nul_byte_makes_a_file_binary() {
        assert!(is_text(b"fn main() {}"));
        assert!(is_text(b""));
        assert!(!is_text(b"\x7fELF\0\0"));
    }
}
