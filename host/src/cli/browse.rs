//! `ninering ls` and `ninering cat`: a client for people, by the same way that programs go.

use std::{
    io::{self, Write},
    process::ExitCode,
    str::FromStr,
    time::{Duration, UNIX_EPOCH},
};

use anyhow::Context;
use ninering::{
    mount::{Attributes, EntryPlus, Handle, MountOptions, OpenFlags},
    source::{Source, SourceError},
};
use ninering_wire::mode;

use super::mounting::{MountArguments, announced};

/// List a directory, or show a file's entry.
#[derive(clap::Args)]
#[command(after_help = super::SOURCES)]
pub(super) struct List {
    /// Show mode, links, owner, group, size and time of last change too.
    #[arg(short)]
    long: bool,
    /// Show names that begin with a dot too.
    #[arg(short)]
    all: bool,
    #[command(flatten)]
    settings: MountArguments,
    /// What to list: a source of files, and behind a double slash a path in it, such as dir:/srv//docs.
    #[arg(value_name = "SOURCE[//PATH]")]
    place: Place,
}

/// Write files to standard output.
#[derive(clap::Args)]
#[command(after_help = super::SOURCES)]
pub(super) struct Concatenate {
    #[command(flatten)]
    settings: MountArguments,
    /// What to write: a source of files, and behind a double slash a path in it, such as tcp://host:564/srv//a.txt.
    #[arg(value_name = "SOURCE//PATH", required = true)]
    places: Vec<Place>,
}

/// `SOURCE[//PATH]`.
#[derive(Clone, Debug)]
struct Place {
    source: Source,
    path: String,
}

impl FromStr for Place {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        // The slashes of "tcp://" and "unix:///" part nothing.
        let start = text.find("://").map_or(0, |scheme| scheme + 3 + usize::from(text.starts_with("unix:///")));
        let (source, path) = match text[start..].find("//") {
            Some(at) => (&text[..start + at], text[start + at + 2..].trim_start_matches('/')),
            None => (text, ""),
        };
        Ok(Self { source: source.parse()?, path: if path.is_empty() { ".".into() } else { path.into() } })
    }
}

impl Place {
    /// Mounts the source, to be looked at from its root.
    async fn look(
        &self,
        settings: &MountArguments,
        look: impl AsyncFnOnce(&Handle) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let options = MountOptions { read_only: true, ..settings.options() };
        let mount = announced(|| format!("waiting for {} …", self.source), self.source.mount(options)).await?;
        let seen = look(&mount.root()).await.with_context(|| self.to_string());
        let finished = mount.finish().await;
        seen?;
        Ok(finished?)
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}//{}", self.source, self.path)
    }
}

pub(super) fn list(arguments: List) -> anyhow::Result<ExitCode> {
    let List { place, settings, .. } = &arguments;
    super::runtime()?.block_on(place.look(settings, async |root| list_at(root, &arguments).await))?;
    Ok(ExitCode::SUCCESS)
}

async fn list_at(root: &Handle, arguments: &List) -> anyhow::Result<()> {
    let path = &arguments.place.path;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let attributes = root.stat_at(path, true).await?;
    if !is(&attributes, mode::IFDIR) {
        let details = arguments.long.then(|| details(Some(&attributes)));
        write_entry(&mut out, details.as_deref(), path.as_bytes(), None)?;
        return Ok(out.flush()?);
    }
    let flags = OpenFlags::READ | OpenFlags::DIRECTORY | OpenFlags::FOLLOW;
    let directory = root.open_at(path, flags, 0).await?;
    let mut entries = entries(&directory, arguments.long).await?;
    entries.retain(|entry| arguments.all || !entry.entry.name.starts_with(b"."));
    entries.sort_by(|one, other| one.entry.name.cmp(&other.entry.name));
    for EntryPlus { entry, attributes } in entries {
        let target = match &attributes {
            // A name that is no text can be listed, and not asked for.
            Some(attributes) if is(attributes, mode::IFLNK) => match std::str::from_utf8(&entry.name) {
                Ok(name) => Some(directory.read_link(name).await.with_context(|| name.to_owned())?),
                Err(_) => None,
            },
            _ => None,
        };
        let details = arguments.long.then(|| details(attributes.as_ref()));
        write_entry(&mut out, details.as_deref(), &entry.name, target.as_deref())?;
    }
    Ok(out.flush()?)
}

/// Is it a file of this type?
fn is(attributes: &Attributes, kind: u32) -> bool {
    attributes.mode & mode::IFMT == kind
}

/// All entries, with their attributes if those are wanted, and can be had.
async fn entries(directory: &Handle, with_attributes: bool) -> ninering::mount::Result<Vec<EntryPlus>> {
    let mut all: Vec<EntryPlus> = Vec::new();
    loop {
        let offset = all.last().map_or(0, |last| last.entry.offset);
        let end = if with_attributes {
            let batch = directory.read_directory_plus(offset).await?;
            all.extend(batch.entries);
            batch.end
        } else {
            let batch = directory.read_directory(offset).await?;
            all.extend(batch.entries.into_iter().map(|entry| EntryPlus { entry, attributes: None }));
            batch.end
        };
        if end {
            return Ok(all);
        }
    }
}

/// One line of a listing. Bytes of a name that a terminal could take for commands are escaped.
fn write_entry(out: &mut impl Write, details: Option<&str>, name: &[u8], target: Option<&[u8]>) -> io::Result<()> {
    let printable = |bytes: &[u8]| String::from_utf8_lossy(bytes).escape_debug().to_string().replace("\\'", "'");
    if let Some(details) = details {
        write!(out, "{details} ")?;
    }
    write!(out, "{}", printable(name))?;
    if let Some(target) = target {
        write!(out, " -> {}", printable(target))?;
    }
    writeln!(out)
}

/// What a long line says before the name.
fn details(attributes: Option<&Attributes>) -> String {
    let Some(Attributes { mode, nlink, uid, gid, size, modified, .. }) = attributes else {
        return format!("?????????? {0:>3} {0:>5} {0:>5} {0:>12} {0:>20}", '?');
    };
    let seconds = u64::try_from(modified.seconds).unwrap_or(0);
    let time = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds));
    format!("{} {nlink:>3} {uid:>5} {gid:>5} {size:>12} {time}", mode_text(*mode))
}

/// A mode as `ls -l` writes it.
fn mode_text(mode: u32) -> String {
    let kind = match mode & mode::IFMT {
        mode::IFDIR => 'd',
        mode::IFLNK => 'l',
        mode::IFBLK => 'b',
        mode::IFCHR => 'c',
        mode::IFIFO => 'p',
        mode::IFSOCK => 's',
        _ => '-',
    };
    let mut text = String::from(kind);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (false, false) => '-',
            (false, true) => 'x',
            (true, false) => letter.to_ascii_uppercase(),
            (true, true) => letter,
        });
    }
    text
}

pub(super) fn concatenate(arguments: Concatenate) -> anyhow::Result<ExitCode> {
    super::runtime()?.block_on(async {
        let mut out = io::stdout().lock();
        for place in &arguments.places {
            place.look(&arguments.settings, async |root| copy(root, &place.path, &mut out).await).await?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

async fn copy(root: &Handle, path: &str, out: &mut impl Write) -> anyhow::Result<()> {
    let file = root.open_at(path, OpenFlags::READ | OpenFlags::FOLLOW, 0).await?;
    if file.is_directory() {
        anyhow::bail!("{}", ninering_wire::Errno::EISDIR);
    }
    let mut offset = 0;
    loop {
        let buffer = root.mount().buffer(1 << 20).await?;
        let bytes = file.read_at(offset, buffer).await?.into_bytes();
        if bytes.is_empty() {
            return Ok(());
        }
        out.write_all(&bytes)?;
        offset += bytes.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_parted_at_the_double_slash() {
        for (text, source, path) in [
            ("dir:/srv//a/b", "dir:/srv", "a/b"),
            ("dir:/srv", "dir:/srv", "."),
            ("tcp://h:1/x//a", "tcp://h:1?aname=/x", "a"),
            ("tcp://h:1//a", "tcp://h:1", "a"),
            ("vsock://2:1/x//a", "vsock://2:1?aname=/x", "a"),
            ("unix:///run/s//a", "unix:///run/s", "a"),
        ] {
            let place: Place = text.parse().expect(text);
            assert_eq!((place.source.to_string().as_str(), place.path.as_str()), (source, path), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_looked_at_is_as_wide_as_what_can() {
        let attributes = "-rw-r--r--   1     0     0            6 2026-11-23T00:00:00Z";
        assert_eq!(details(None).len(), attributes.len());
    }

    #[test]
    fn modes_read_as_in_ls() {
        assert_eq!(mode_text(0o100_644), "-rw-r--r--");
        assert_eq!(mode_text(0o041_777), "drwxrwxrwt");
        assert_eq!(mode_text(0o104_710), "-rws--x---");
    }
}
