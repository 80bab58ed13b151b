//! Authentication: what user and server say to each other before the attach.

use std::{error::Error as StdError, fmt, future::Future, pin::Pin};

use super::{Buffers, Error, Mount, Result, component::vfs::Value, handle::unexpected};

/// The most bytes of one message of an authentication.
const MOST_BYTES: usize = 8192;

/// What an authentication fails with.
pub type AuthenticationError = Box<dyn StdError + Send + Sync>;

/// Authenticates the user of a mount, whatever the protocol is that the server wants. Called each time that the mount
/// connects, also when it does again because the connection was lost.
///
/// 9P says nothing of what is said: `Tauth` makes a fid, and what is written to and read from it is the conversation.
pub trait Authenticate: fmt::Debug + Send + Sync {
    /// Holds the conversation. When it is over the mount attaches, and only then the server says whether it was convinced.
    ///
    /// # Errors
    /// Why there is no use in attaching.
    fn authenticate<'c>(
        &'c self,
        conversation: Conversation<'c>,
    ) -> Pin<Box<dyn Future<Output = Result<(), AuthenticationError>> + Send + 'c>>;
}

/// An authentication under way.
#[derive(Clone, Copy)]
pub struct Conversation<'m> {
    mount: &'m Mount,
}

impl<'m> Conversation<'m> {
    /// Who authenticates, by name.
    pub fn uname(&self) -> &'m str {
        &self.mount.options().uname
    }

    /// The same by number.
    pub fn uid(&self) -> Option<u32> {
        self.mount.options().uid
    }

    /// For which of the server's exports.
    pub fn aname(&self) -> &'m str {
        &self.mount.options().aname
    }

    /// Reads what the server says: as many bytes as there are, and as there is room for up to 8 KiB. 0 at its end.
    ///
    /// # Errors
    /// The server's, or the mount is broken.
    pub async fn read(&self, bytes: &mut [u8]) -> Result<usize> {
        let buffer = self.mount.buffer(bytes.len().min(MOST_BYTES)).await?;
        let outcome =
            self.mount.operate(None, [buffer].into(), |vfs, store, extents| vfs.call_auth_read(store, extents));
        let (value, buffers, _) = outcome.await;
        let count = counted(value)?.min(bytes.len());
        let read = buffers.first().map_or(0, |buffer| buffer.read(0, &mut bytes[..count]));
        Ok(read)
    }

    /// Writes what the user says. Tells how many bytes the server took, of up to 8 KiB.
    ///
    /// # Errors
    /// As [`Conversation::read`]'s.
    pub async fn write(&self, bytes: &[u8]) -> Result<usize> {
        let mut buffer = self.mount.buffer(bytes.len().min(MOST_BYTES)).await?;
        let given = buffer.write(0, bytes);
        buffer.truncate(given);
        let outcome =
            self.mount.operate(None, [buffer].into(), |vfs, store, extents| vfs.call_auth_write(store, extents));
        Ok(counted(outcome.await.0)?.min(given))
    }
}

/// How many bytes a transfer has moved.
fn counted(value: Result<Value>) -> Result<usize> {
    match value? {
        Value::Count(count) => Ok(usize::try_from(count).unwrap_or(usize::MAX)),
        other => Err(unexpected(other)),
    }
}

impl fmt::Debug for Conversation<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Conversation").field("uname", &self.uname()).finish_non_exhaustive()
    }
}

impl Mount {
    /// What comes of the session that has begun, or goes on: authenticates if the server wants that, and attaches.
    ///
    /// # Errors
    /// The server's, or why the user could not authenticate.
    pub(super) async fn authenticate(&self, started: Value) -> Result<Value> {
        let (Value::Authentication(_), Some(user)) = (&started, &self.options().authenticate) else {
            return Ok(started);
        };
        if let Err(error) = user.authenticate(Conversation { mount: self }).await {
            return Err(Error::broken(format!("the authentication failed: {error}")));
        }
        self.operate(None, Buffers::new(), |vfs, store, _| vfs.call_attach(store)).await.0
    }
}
