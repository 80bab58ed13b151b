//! Paths whose names can be looked up one by one.

/// A relative path without `..` and with nothing behind its last name: what it names depends on nothing but its names, if
/// none of those is a symbolic link.
#[derive(Clone, Copy, Debug)]
pub(in crate::mount) struct PlainPath<'a>(&'a str);

impl<'a> PlainPath<'a> {
    pub(super) fn new(path: &'a str) -> Option<Self> {
        let is_plain = !path.is_empty()
            && !path.starts_with('/')
            && !path.ends_with('/')
            && !path.ends_with("/.")
            && path != "."
            && path.split('/').all(|name| name != "..");
        is_plain.then_some(Self(path))
    }

    /// Its names.
    pub(super) fn names(self) -> impl Iterator<Item = &'a str> {
        self.0.split('/').filter(|name| !matches!(*name, "" | "."))
    }

    /// What is before its last name, if there is anything, and that.
    pub(super) fn split(self) -> Option<(Option<&'a str>, &'a str)> {
        match self.0.rsplit_once('/') {
            None => Some((None, self.0)),
            Some((before, name)) => {
                let mut before = before.trim_end_matches('/');
                while let Some(shorter) = before.strip_suffix("/.") {
                    before = shorter.trim_end_matches('/');
                }
                Some((Some(before).filter(|before| *before != "."), name))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &str) -> Option<Vec<&str>> {
        PlainPath::new(path).map(|path| path.names().collect())
    }

    #[test]
    fn names_are_told_apart() {
        assert_eq!(names("a/b"), Some(vec!["a", "b"]));
        assert_eq!(names("./a//./b"), Some(vec!["a", "b"]));
        for other in ["", ".", "/a", "a/", "a/.", "..", "a/../b", "../a", "a/.."] {
            assert_eq!(names(other), None, "{other}");
        }
    }

    #[test]
    fn the_last_name_is_split_off() {
        let split = |path| PlainPath::new(path).and_then(PlainPath::split);
        assert_eq!(split("a"), Some((None, "a")));
        assert_eq!(split("./a"), Some((None, "a")));
        assert_eq!(split("a/b/c"), Some((Some("a/b"), "c")));
        assert_eq!(split("a//./b"), Some((Some("a"), "b")));
    }
}
