//! What `ninering serve` serves, and to whom.

use std::{collections::HashSet, fmt, str::FromStr, sync::Arc};

use anyhow::Context;
use ninering::{
    backend::Backend,
    server::{Export, ExportError, IdMapError, IdRange, Identity, Server, ServerOptions, Squash, Terms},
    source::{Source, SourceError},
};

/// Explains exports and identities, below the options.
pub(super) const HELP: &str = "\
EXPORTS
SOURCE is what clients get that ask for no aname, or for one that no other export has; behind a
dir:PATH, an aname is a directory below it; behind another server's address, it is below the aname
there. --export offers more, each as NAME=SOURCE and, after
commas, options that it has in place of those for all exports, by the same names:
  ro                                        let nobody change anything
  identity=WHO  squash=WHO  checks=WHO  anon=UID:GID
  allow=UID  users=RANGE  groups=RANGE      these can be given several times
as in
  --export home=dir:/home,squash=root --export pub=dir:/srv/pub,ro,squash=all

IDENTITIES
Run by root, each request has the rights of the user who attached: its groups are those of this
machine's databases, as of the last minute before it attached. There is no authentication: a client
is who it says it is, root too, unless --identity peer, --squash or --allow say otherwise. With
--checks client, the client's word is taken for its users' permissions too.
Run by anybody else, everything is done as that user.";

/// Explains what it is to relay, below the options.
#[cfg(feature = "mount")]
pub(super) const RELAYS: &str = "\
RELAYS
A SOURCE at tcp://, unix:// or vsock:// is another 9P2000.L server's, which is served again. All
clients share one connection to it. Who attaches here is attached there, by the same name and
number, and it is that server that checks permissions; it trusts this one as it would any client.
With ?uid=NUMBER behind the address, all are attached as that user; with --identity process, as
who runs this. Locks, extended attributes and special files are not passed on.";

/// Exports, and the terms of those that have none of their own.
#[derive(clap::Args)]
pub(super) struct ExportArguments {
    /// What to serve: dir:PATH, mem:, or another server's export, tcp://HOST:PORT/ANAME, vsock://CID:PORT/ANAME or
    /// unix:///SOCKET?aname=ANAME
    #[arg(required_unless_present = "exports")]
    source: Option<Source>,
    /// Serve SOURCE too, to clients that ask for the aname NAME (see below). Can be given several times.
    #[arg(short, long = "export", value_name = "NAME=SOURCE[,OPTION…]")]
    exports: Vec<ExportArgument>,
    /// Let nobody change anything.
    #[arg(long)]
    read_only: bool,
    /// As whom requests are made: the user that the client names, the peer of a Unix socket (whose kernel tells; if that
    /// is root, the user that it names), or the process that serves [default: user if run by root, else process]
    #[arg(long, value_name = "WHO")]
    identity: Option<IdentityArgument>,
    /// Make nobody of root, or of all users.
    #[arg(long, value_name = "WHO", default_value = "none")]
    squash: SquashArgument,
    /// Who squashed users are here, and users that say no number and no known name.
    #[arg(long, value_name = "UID:GID", default_value = "65534:65534")]
    anon: Anonymous,
    /// Let this user attach, by the client's number, and others that are allowed, but no more. Can be given several times.
    #[arg(long, value_name = "UID")]
    allow: Vec<u32>,
    /// Take COUNT users of the client, from CLIENT on, for those from HOST on, and no others. Can be given several times.
    #[arg(long, value_name = "CLIENT:HOST:COUNT")]
    users: Vec<IdRange>,
    /// The same of groups.
    #[arg(long, value_name = "CLIENT:HOST:COUNT")]
    groups: Vec<IdRange>,
    /// Who checks permissions: this server, or the client, whom it then believes. For clients with users of their own.
    #[arg(long, value_name = "WHO", default_value = "server")]
    checks: ChecksArgument,
    #[cfg(feature = "mount")]
    #[command(flatten)]
    relaying: super::relaying::RelayArguments,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum IdentityArgument {
    User,
    Peer,
    Process,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum SquashArgument {
    None,
    Root,
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ChecksArgument {
    Server,
    Client,
}

/// `UID:GID`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Anonymous(u32, u32);

impl FromStr for Anonymous {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse().ok().filter(|&number: &u32| number != !0);
        text.split_once(':')
            .and_then(|(uid, gid)| Some(Self(number(uid)?, number(gid)?)))
            .ok_or_else(|| format!("'{text}' is no user and group: write UID:GID, as in 65534:65534"))
    }
}

/// `NAME=SOURCE[,OPTION…]`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ExportArgument {
    name: String,
    source: Source,
    settings: Vec<Setting>,
}

/// What can stand behind a comma.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Setting {
    ReadOnly,
    Identity(IdentityArgument),
    Squash(SquashArgument),
    Anonymous(Anonymous),
    Allow(u32),
    Users(IdRange),
    Groups(IdRange),
    Checks(ChecksArgument),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum ExportArgumentError {
    #[error("write NAME=SOURCE, such as home=dir:/home")]
    Form,
    #[error("the name '{0}' has an empty part, '.' or '..'")]
    Name(String),
    #[error("{0}")]
    Source(#[from] SourceError),
    #[error("'{0}' takes user, peer or process")]
    Identity(String),
    #[error("'{0}' takes none, root or all")]
    Squash(String),
    #[error("'{0}' takes server or client")]
    Checks(String),
    #[error("'{0}' takes a user's number")]
    Allow(String),
    #[error("{0}")]
    Anonymous(String),
    #[error("{0}")]
    Range(#[from] IdMapError),
}

impl FromStr for ExportArgument {
    type Err = ExportArgumentError;

    fn from_str(text: &str) -> Result<Self, ExportArgumentError> {
        let (name, mut source) = text.split_once('=').ok_or(ExportArgumentError::Form)?;
        let bare = name.trim_matches('/');
        if !bare.is_empty() && bare.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(ExportArgumentError::Name(name.into()));
        }
        // From behind: a path may have commas in it.
        let mut settings = Vec::new();
        while let Some((before, last)) = source.rsplit_once(',')
            && let Some(setting) = setting(last)?
        {
            settings.push(setting);
            source = before;
        }
        settings.reverse();
        Ok(Self { name: bare.into(), source: source.parse()?, settings })
    }
}

/// The setting that `text` is, if it begins as one.
fn setting(text: &str) -> Result<Option<Setting>, ExportArgumentError> {
    use clap::ValueEnum;
    if text == "ro" {
        return Ok(Some(Setting::ReadOnly));
    }
    let Some((key, value)) = text.split_once('=') else { return Ok(None) };
    let wrong = |error: fn(String) -> ExportArgumentError| move |_| error(text.into());
    Ok(Some(match key {
        "identity" => IdentityArgument::from_str(value, false)
            .map(Setting::Identity)
            .map_err(wrong(ExportArgumentError::Identity))?,
        "squash" => {
            SquashArgument::from_str(value, false).map(Setting::Squash).map_err(wrong(ExportArgumentError::Squash))?
        }
        "checks" => {
            ChecksArgument::from_str(value, false).map(Setting::Checks).map_err(wrong(ExportArgumentError::Checks))?
        }
        "anon" => Setting::Anonymous(value.parse().map_err(ExportArgumentError::Anonymous)?),
        "allow" => Setting::Allow(value.parse().map_err(|_| ExportArgumentError::Allow(text.into()))?),
        "users" => Setting::Users(value.parse()?),
        "groups" => Setting::Groups(value.parse()?),
        _ => return Ok(None),
    }))
}

impl ExportArguments {
    /// A server of them all.
    pub(super) async fn server(&self, options: ServerOptions) -> anyhow::Result<Arc<Server>> {
        let mut options = ServerOptions { read_only: options.read_only || self.read_only, ..options };
        let mut exports = Vec::new();
        if let Some(source) = &self.source {
            let terms = self.terms(source, "", &[])?;
            exports.push(Export::new(self.backend(source, &mut options.max_msize).await?, terms));
        }
        for ExportArgument { name, source, settings } in &self.exports {
            let terms = self.terms(source, name, settings).with_context(|| format!("the export '{name}'"))?;
            exports.push(Export::new(self.backend(source, &mut options.max_msize).await?, terms));
        }
        Server::with_exports(exports, options).map_err(|error| match error {
            ExportError::Switch(reason) => anyhow::anyhow!("{reason} (--identity process serves all as who runs this)"),
            other => other.into(),
        })
    }

    /// What is served of a source. Where that is another server's, `msize` becomes what that agrees to, if it is less.
    #[cfg(feature = "mount")]
    async fn backend(&self, source: &Source, msize: &mut u32) -> anyhow::Result<Arc<dyn Backend>> {
        if !source.is_remote() {
            return Ok(source.backend()?);
        }
        let relay = self.relaying.relay(source, *msize).await?;
        *msize = relay.msize().min(*msize);
        Ok(relay)
    }

    #[cfg(not(feature = "mount"))]
    #[expect(clippy::unused_async, reason = "with the feature, it connects")]
    async fn backend(&self, source: &Source, _msize: &mut u32) -> anyhow::Result<Arc<dyn Backend>> {
        Ok(source.backend()?)
    }

    /// Does any export take who is at the other end of a Unix socket for its user?
    pub(super) fn asks_for_peers(&self) -> bool {
        let peer = |setting: &Setting| *setting == Setting::Identity(IdentityArgument::Peer);
        self.identity == Some(IdentityArgument::Peer)
            || self.exports.iter().any(|export| export.settings.iter().any(peer))
    }

    /// What all exports have in common, and what `settings` say instead.
    fn terms(&self, source: &Source, name: &str, settings: &[Setting]) -> Result<Terms, IdMapError> {
        // Of what can be said several times, the own settings take the place of all the common ones.
        let own = |is: fn(&Setting) -> bool| settings.iter().any(is);
        let common = |is: fn(&Setting) -> bool, common: Vec<Setting>| if own(is) { Vec::new() } else { common };
        let mut all = vec![Setting::Squash(self.squash), Setting::Anonymous(self.anon), Setting::Checks(self.checks)];
        all.extend(self.identity.map(Setting::Identity));
        all.extend(common(
            |setting| matches!(setting, Setting::Allow(_)),
            self.allow.iter().copied().map(Setting::Allow).collect(),
        ));
        all.extend(common(
            |setting| matches!(setting, Setting::Users(_)),
            self.users.iter().copied().map(Setting::Users).collect(),
        ));
        all.extend(common(
            |setting| matches!(setting, Setting::Groups(_)),
            self.groups.iter().copied().map(Setting::Groups).collect(),
        ));
        all.extend_from_slice(settings);

        let is_root = rustix::process::geteuid().is_root();
        // Another server does its requests as users, whoever relays them.
        let identity = if is_root || source.is_remote() { Identity::User } else { Identity::Process };
        let mut terms = Terms { name: name.into(), identity, ..Terms::default() };
        for setting in all {
            match setting {
                Setting::ReadOnly => terms.read_only = true,
                Setting::Identity(IdentityArgument::User) => terms.identity = Identity::User,
                Setting::Identity(IdentityArgument::Peer) => terms.identity = Identity::Peer,
                Setting::Identity(IdentityArgument::Process) => terms.identity = Identity::Process,
                Setting::Squash(SquashArgument::None) => terms.squash = Squash::Nobody,
                Setting::Squash(SquashArgument::Root) => terms.squash = Squash::Root,
                Setting::Squash(SquashArgument::All) => terms.squash = Squash::All,
                Setting::Anonymous(Anonymous(uid, gid)) => terms.anonymous = (uid, gid),
                Setting::Allow(uid) => {
                    terms.allowed.get_or_insert_with(HashSet::new).insert(uid);
                }
                Setting::Users(range) => terms.users.add(range)?,
                Setting::Groups(range) => terms.groups.add(range)?,
                Setting::Checks(checks) => terms.client_checks = checks == ChecksArgument::Client,
            }
        }
        Ok(terms)
    }
}

impl fmt::Display for ExportArguments {
    /// The sources, with their names.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources = self.source.iter().map(ToString::to_string);
        let exports = self.exports.iter().map(|export| format!("{}={}", export.name, export.source));
        formatter.write_str(&sources.chain(exports).collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        exports: ExportArguments,
    }

    fn parse(arguments: &[&str]) -> ExportArguments {
        Cli::try_parse_from(["serve"].iter().chain(arguments)).expect("they are well formed").exports
    }

    #[test]
    fn exports_are_parsed() {
        let export: ExportArgument =
            "/home/=dir:/srv/a,b,ro,squash=root,anon=7:8,allow=1,users=0:100000:65536".parse().expect("an export");
        assert_eq!(export.name, "home");
        assert_eq!(export.source, Source::Directory("/srv/a,b".into()));
        assert_eq!(
            export.settings,
            [
                Setting::ReadOnly,
                Setting::Squash(SquashArgument::Root),
                Setting::Anonymous(Anonymous(7, 8)),
                Setting::Allow(1),
                Setting::Users(IdRange { client: 0, host: 100_000, count: 65_536 }),
            ]
        );
        assert_eq!("/=mem:".parse::<ExportArgument>().expect("an export").name, "");
        let odd: ExportArgument = "a=dir:/x,mode=7".parse().expect("an export");
        assert_eq!(odd.source, Source::Directory("/x,mode=7".into()));
    }

    #[test]
    fn mistakes_in_exports_are_named() {
        for (text, part) in [
            ("dir:/x", "NAME=SOURCE"),
            ("a/../b=dir:/x", "'..'"),
            ("a//b=dir:/x", "empty part"),
            ("a=/x", "dir:PATH"),
            ("a=dir:/x,squash=me", "'squash=me' takes none, root or all"),
            ("a=dir:/x,identity=root,ro", "'identity=root' takes"),
            ("a=dir:/x,anon=5", "'5' is no user and group"),
            ("a=dir:/x,anon=4294967295:1", "UID:GID"),
            ("a=dir:/x,allow=me", "'allow=me' takes a user's number"),
            ("a=dir:/x,users=1:2", "CLIENT:HOST:COUNT"),
            ("a=dir:/x,checks=nobody", "server or client"),
        ] {
            let error = text.parse::<ExportArgument>().expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
            assert!(!error.contains('\n'));
        }
        assert!(Cli::try_parse_from(["serve"]).is_err(), "something must be served");
    }

    #[test]
    fn an_export_has_its_own_terms_in_place_of_the_common_ones() {
        let arguments = parse(&[
            "mem:",
            "--squash=root",
            "--allow=1",
            "--allow=2",
            "--users=0:1000:1",
            "--identity=process",
            "--export=a=mem:,squash=all,allow=3,identity=peer,ro",
            "--export=b=mem:,users=5:6:1,users=7:8:1",
        ]);
        let terms = |index: usize| {
            let export = &arguments.exports[index];
            arguments.terms(&export.source, &export.name, &export.settings).expect("well formed terms")
        };
        let common = arguments.terms(&Source::Memory, "", &[]).expect("well formed terms");
        assert_eq!((common.squash, common.identity, common.read_only), (Squash::Root, Identity::Process, false));
        assert_eq!(common.allowed, Some([1, 2].into()));
        let (a, b) = (terms(0), terms(1));
        assert_eq!((a.squash, a.identity, a.read_only), (Squash::All, Identity::Peer, true));
        assert_eq!((a.allowed, a.users.to_host(0)), (Some([3].into()), Some(1000)));
        assert_eq!((b.users.to_host(0), b.users.to_host(7)), (None, Some(8)));
        assert_eq!(b.allowed, Some([1, 2].into()));
        assert!(arguments.asks_for_peers());
        assert_eq!(arguments.to_string(), "mem:, a=mem:, b=mem:");
    }

    #[test]
    fn exports_that_contradict_are_refused() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        let error = |arguments: &[&str]| {
            let served = runtime.block_on(parse(arguments).server(ServerOptions::default()));
            format!("{:#}", served.err().expect("a refusal"))
        };
        assert!(error(&["--export=a=mem:", "--export=/a/=mem:"]).contains("'a'"));
        assert!(error(&["mem:", "--export=/=mem:"]).contains("two exports"));
        assert!(error(&["mem:", "--users=1:1:2", "--users=2:5:1"]).contains("2:5:1"));
        assert!(error(&["unix:///nowhere/at/all"]).contains("unix:///nowhere/at/all"));
    }
}
