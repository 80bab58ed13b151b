//! Sessions that are called, one request after the other.

use std::sync::Arc;

use ninering::{payload::Payload, server};

use crate::{
    model::{Contents, Session},
    reply::{self, Dialect, kind},
    request::{self, Input},
    scene::{MAX_FIDS, Scene, Served},
};

/// How many clients there are.
const CLIENTS: usize = 3;
/// How many requests of an input are made; more teach nothing that two inputs would not.
const MOST_STEPS: usize = 300;
/// Bytes of a `Twrite` before its payload.
const TWRITE_LEN: usize = 23;

/// Plays `input` to a server that is called, request by request, and panics where that does not keep its word.
pub fn in_process(served: Served, input: &Input) {
    let scene = Scene::new(served);
    let mut contents = scene.has_lasting_qids().then(Contents::default);
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::attached(&scene)).collect();
    let before = clients[0].free_space();
    for (number, step) in input.steps.iter().take(MOST_STEPS).enumerate() {
        let client = &mut clients[usize::from(step.client) % CLIENTS];
        client.ask(&step.bytes(number as u16), contents.as_mut());
    }
    drop(clients);
    if served == Served::Mem {
        let mut client = Client::attached(&scene);
        client.remove_all();
        assert_eq!(client.free_space(), before, "space is lost");
    }
    scene.check();
}

struct Client<'a> {
    scene: &'a Scene,
    session: server::Session,
    model: Session,
}

impl<'a> Client<'a> {
    /// One that speaks 9P2000.L and has attached fid 0.
    fn attached(scene: &'a Scene) -> Self {
        let session = Arc::clone(&scene.server).session();
        let mut client = Self { scene, session, model: Session::new() };
        client.ask(&request::version(), None);
        client.ask(&request::attach(0, 0), None);
        client
    }

    /// Makes a request and checks what comes of it; tells the reply.
    fn ask(&mut self, request: &[u8], contents: Option<&mut Contents>) -> Vec<u8> {
        let mut bytes = request.to_vec();
        let message_len = if bytes[4] == kind::TWRITE { TWRITE_LEN.min(bytes.len()) } else { bytes.len() };
        let (message, payload) = bytes.split_at_mut(message_len);
        let capacity = self.session.reply_capacity(message);
        // What lies behind the space for the reply is not the server's.
        let mut reply = vec![0xa5; capacity + 16];
        let (space, behind) = reply.split_at_mut(capacity);
        let length = self.session.handle(message, &Payload::from(payload), &Payload::from(space));
        assert!(length <= capacity);
        assert!(behind.iter().all(|&byte| byte == 0xa5));
        reply.truncate(length);

        let granted = reply::check(request, &reply, self.model.dialect, self.model.msize);
        self.scene.check_reply(&reply);
        self.model.follow(request, &reply, granted, contents);
        assert_eq!(self.session.fid_count(), self.model.count(), "fids after {request:?}, answered by {reply:?}");
        assert!(self.model.count() <= MAX_FIDS);
        reply
    }

    /// Asks for what cannot be refused.
    fn get(&mut self, request: &[u8]) -> Vec<u8> {
        let reply = self.ask(request, None);
        assert_eq!(self.model.dialect, Dialect::Linux);
        assert_eq!(reply[4], request[4] + 1, "{reply:?} to {request:?}");
        reply
    }

    /// Free blocks and free inodes; nothing where the client has no fid 0 of its own.
    fn free_space(&mut self) -> (u64, u64) {
        let reply = self.get(&request::statfs(0, 0));
        // type[4] bsize[4] blocks[8] bfree[8] bavail[8] files[8] ffree[8]
        (reply::number::<8>(&reply, 23), reply::number::<8>(&reply, 47))
    }

    /// Removes all that there is in the filesystem, also what the root has of extended attributes.
    fn remove_all(&mut self) {
        const HERE: u32 = 1;
        self.remove_xattrs_of_root();
        self.get(&request::walk(0, 0, HERE, &[]));
        loop {
            // Down to a directory without another one in it, removing what else there is.
            const LISTED: u32 = 2;
            self.get(&request::walk(0, HERE, LISTED, &[]));
            self.get(&request::lopen(0, LISTED, 0o200_000));
            let (mut offset, mut below) = (0, None);
            loop {
                let reply = self.get(&request::readdir(0, LISTED, offset, 4000));
                let entries = reply::entries(&reply);
                let Some(last) = entries.last() else { break };
                offset = last.offset;
                for entry in entries.iter().filter(|entry| entry.name != b"." && entry.name != b"..") {
                    if entry.directory {
                        below = Some(entry.name.to_vec());
                    } else {
                        self.get(&request::unlinkat(0, HERE, entry.name, false));
                    }
                }
            }
            self.get(&request::clunk(0, LISTED));
            match below {
                None if self.is_root(HERE) => break,
                None => {
                    self.get(&request::walk(0, HERE, HERE, &[b".."]));
                }
                Some(name) => {
                    let removed = self.ask(&request::unlinkat(0, HERE, &name, true), None);
                    if removed[4] == kind::RLERROR {
                        self.get(&request::walk(0, HERE, HERE, &[&name]));
                    }
                }
            }
        }
        self.get(&request::clunk(0, HERE));
    }

    fn remove_xattrs_of_root(&mut self) {
        const XATTR: u32 = 1;
        loop {
            self.get(&request::xattr_names(0, 0, XATTR));
            let reply = self.get(&request::read(0, XATTR, 0, 4000));
            self.get(&request::clunk(0, XATTR));
            let Some(end) = reply[11..].iter().position(|&byte| byte == 0) else { return };
            self.get(&request::walk(0, 0, XATTR, &[]));
            self.get(&request::xattr_remove(0, XATTR, &reply[11..11 + end]));
            self.get(&request::clunk(0, XATTR));
        }
    }

    fn is_root(&mut self, fid: u32) -> bool {
        // valid[8], and then the qid[13]
        let [root, this] = [0, fid].map(|fid| self.get(&request::getattr(0, fid))[15..28].to_vec());
        root == this
    }
}
