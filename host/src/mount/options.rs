//! What a mount may use, and how long it may take.

use std::{sync::Arc, time::Duration};

use super::{Authenticate, CacheMode, ClientComponent};
use crate::virtqueue::Features;

/// What a mount may use, and how long it may take.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// Which of the server's exports.
    pub aname: String,
    /// Who the files are accessed as, by name.
    pub uname: String,
    /// The same by number.
    pub uid: Option<u32>,
    /// The largest message to ask the server for, in bytes.
    pub msize: u32,
    /// Nothing may be changed through this mount.
    pub read_only: bool,
    /// How long a server may take to answer, or to be connected to.
    pub timeout: Duration,
    /// How long to try to connect again when the connection to a remote server is lost; operations wait meanwhile. With
    /// none, the mount breaks at once.
    pub recovery: Duration,
    /// Bytes of the region: all buffers of all operations under way.
    pub region_size: u64,
    /// What is kept of files; `None` for what is safe: nothing of an in-process server's, `CloseToOpen` of a remote one's.
    pub cache: Option<CacheMode>,
    /// Bytes of file contents that are kept at the most. They are in the region too, beside `region_size`, and take up
    /// memory once they are used.
    pub cache_size: u64,
    /// How long attributes and names, and that a name is not there, are believed where the cache mode keeps any.
    pub attribute_timeout: Duration,
    /// Descriptors in the ring: a power of two.
    pub queue_size: u16,
    /// The ring's two sides say when they want to be notified next, where the device offers it (`VIRTIO_F_EVENT_IDX`).
    pub event_index: bool,
    /// Requests may have descriptor tables of their own, so that a small ring holds more of them
    /// (`VIRTIO_F_INDIRECT_DESC`).
    pub indirect_descriptors: bool,
    /// Bytes of memory that the client may use itself.
    pub client_memory: usize,
    /// Who authenticates the user to a server that wants it. Without, no server is asked whether it does.
    pub authenticate: Option<Arc<dyn Authenticate>>,
    /// Another client than the built-in one.
    pub client: Option<ClientComponent>,
}

impl Default for MountOptions {
    fn default() -> Self {
        Self {
            aname: String::new(),
            uname: String::new(),
            uid: None,
            msize: (1 << 20) + 4096,
            read_only: false,
            timeout: Duration::from_secs(30),
            recovery: Duration::from_secs(30),
            region_size: 64 << 20,
            cache: None,
            cache_size: 64 << 20,
            attribute_timeout: Duration::from_secs(1),
            queue_size: 64,
            event_index: true,
            indirect_descriptors: true,
            client_memory: 32 << 20,
            authenticate: None,
            client: None,
        }
    }
}

impl MountOptions {
    /// What is wanted of the ring.
    pub(super) fn features(&self) -> Features {
        let wanted = [(self.event_index, Features::EVENT_INDEX), (self.indirect_descriptors, Features::INDIRECT)];
        let wanted = wanted.into_iter().filter(|(is_wanted, _)| *is_wanted);
        wanted.fold(Features::VERSION_1, |features, (_, feature)| features.and(feature))
    }
}
