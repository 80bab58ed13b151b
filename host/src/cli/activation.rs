//! What a service manager hands to its service, and is told by it: systemd's socket activation and notifications.

use std::{env, os::fd::RawFd};

use anyhow::{Context, bail};
use ninering::listener::Address;
use sd_notify::NotifyState;

/// The first descriptor that is handed over.
const FIRST: RawFd = 3;

/// Descriptors that a service manager has handed to this process (`LISTEN_FDS`, `LISTEN_FDNAMES`).
pub(super) struct Activated(Vec<(RawFd, String)>);

impl Activated {
    /// Those that are meant for this process: none where nothing says so.
    ///
    /// # Errors
    /// What the variables say makes no sense.
    pub(super) fn by_environment() -> anyhow::Result<Self> {
        Self::of(|name| env::var(name).ok(), std::process::id())
    }

    fn of(variable: impl Fn(&str) -> Option<String>, process: u32) -> anyhow::Result<Self> {
        let (Some(pid), Some(count)) = (variable("LISTEN_PID"), variable("LISTEN_FDS")) else {
            return Ok(Self(Vec::new()));
        };
        if pid.parse::<u32>().with_context(|| format!("LISTEN_PID is '{pid}'"))? != process {
            // They are for a process that started this one, or was meant to.
            return Ok(Self(Vec::new()));
        }
        let count = count.parse::<u16>().with_context(|| format!("LISTEN_FDS is '{count}'"))?;
        let names = variable("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':').map(str::to_owned);
        Ok(Self((FIRST..).take(count.into()).map(|number| (number, names.next().unwrap_or_default())).collect()))
    }

    /// The addresses of those of this name, or of all.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn addresses(&self, name: Option<&str>) -> anyhow::Result<Vec<Address>> {
        let found: Vec<_> = self
            .0
            .iter()
            .filter(|(_, its_name)| name.is_none_or(|name| name == its_name))
            .map(|&(number, _)| Address::Descriptor(number))
            .collect();
        if !found.is_empty() {
            return Ok(found);
        }
        match name {
            _ if self.0.is_empty() => bail!("systemd has handed no socket to this process (LISTEN_FDS, LISTEN_PID)"),
            Some(name) => {
                let names: Vec<_> = self.0.iter().map(|(_, name)| name.as_str()).collect();
                bail!("systemd has handed no socket named '{name}' to this process, but {}", names.join(", "))
            }
            None => bail!("systemd has handed no socket to this process"),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Tells the service manager that clients can connect. Nothing happens where there is none.
pub(super) fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Tells the service manager that this process is about to end.
pub(super) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot notify the service manager (NOTIFY_SOCKET)");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn activated(pid: &str, count: &str, names: Option<&str>) -> anyhow::Result<Activated> {
        let variable = |name: &str| match name {
            "LISTEN_PID" => Some(pid.to_owned()),
            "LISTEN_FDS" => Some(count.to_owned()),
            "LISTEN_FDNAMES" => names.map(str::to_owned),
            _ => None,
        };
        Activated::of(variable, 42)
    }

    #[test]
    fn descriptors_are_found_by_name() {
        let activated = activated("42", "3", Some("tcp:local:tcp")).unwrap();
        let all = [3, 4, 5].map(Address::Descriptor);
        assert_eq!(activated.addresses(None).unwrap(), all);
        assert_eq!(activated.addresses(Some("tcp")).unwrap(), [3, 5].map(Address::Descriptor));
        let error = activated.addresses(Some("http")).unwrap_err().to_string();
        assert!(error.contains("'http'") && error.contains("tcp, local, tcp"), "{error}");
    }

    #[test]
    fn what_is_for_another_process_is_left_alone() {
        assert!(activated("41", "3", None).unwrap().is_empty());
        assert!(Activated::of(|_| None, 42).unwrap().is_empty());
        assert!(activated("42", "0", None).unwrap().addresses(None).is_err());
        assert!(activated("42", "-1", None).is_err());
        assert!(activated("me", "1", None).is_err());
        assert_eq!(activated("42", "1", None).unwrap().addresses(None).unwrap(), [Address::Descriptor(3)]);
    }
}
