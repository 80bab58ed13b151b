//! A server that does nothing but answer: what the machine's sockets and memory allow, measured as the others are.
//!
//! It answers every request with a reply of the right length, on a thread for each connection that does nothing but receive
//! and send. There is no filesystem behind it, but that `Tread` and `Twrite` really read and write a file, and
//! `Treaddir` tells of the directory as it was when the server began.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::unix::fs::FileExt,
    path::Path,
    sync::Arc,
    thread,
};

use anyhow::{Context, Result};
use ninering_wire::{
    Attributes, DirEntry, Frame, Header, Qid, Qids, RREAD_LEN, Rmessage, Str, Tmessage, VERSION_9P2000L,
};

use super::server::{Bound, bind};

/// Bytes that are received and sent at a time, at the least.
const BUFFER: usize = 1 << 18;

/// Serves on `address` for ever.
pub(crate) fn serve(address: &str, directory: &Path) -> Result<()> {
    let listing = Arc::new(listing(&directory.join("many"))?);
    match bind(address)? {
        Bound::Tcp(listener) => {
            for stream in listener.incoming() {
                let stream = stream?;
                stream.set_nodelay(true)?;
                start(stream, directory, &listing)?;
            }
        }
        Bound::Unix(listener) => {
            for stream in listener.incoming() {
                start(stream?, directory, &listing)?;
            }
        }
    }
    Ok(())
}

fn start(stream: impl Read + Write + Send + 'static, directory: &Path, listing: &Arc<Vec<u8>>) -> Result<()> {
    let read = File::open(directory.join("read"))?;
    let written = File::options().write(true).open(directory.join("written-0"))?;
    let listing = Arc::clone(listing);
    thread::spawn(move || {
        if let Err(error) = (Limit { read, written, listing, out: Vec::new() }).answer_all(stream) {
            eprintln!("limit: {error:#}");
        }
    });
    Ok(())
}

/// The payload of one `Rreaddir` with all entries.
fn listing(directory: &Path) -> Result<Vec<u8>> {
    let mut listing = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let name = entry?.file_name();
        let entry = DirEntry { qid: Qid::default(), offset: 1, kind: 8, name: Str(name.as_encoded_bytes()) };
        let start = listing.len();
        listing.resize(start + entry.encoded_len(), 0);
        entry.encode(&mut listing[start..])?;
    }
    Ok(listing)
}

struct Limit {
    read: File,
    written: File,
    listing: Arc<Vec<u8>>,
    /// Replies to be sent.
    out: Vec<u8>,
}

impl Limit {
    fn answer_all(&mut self, mut stream: impl Read + Write) -> Result<()> {
        let mut input = vec![0; BUFFER];
        let mut filled = 0;
        loop {
            let count = stream.read(&mut input[filled..])?;
            if count == 0 {
                return Ok(());
            }
            filled += count;
            let mut start = 0;
            while let Ok(Header { size, .. }) = Header::decode(&input[start..filled]) {
                let size = size as usize;
                if filled - start < size {
                    if input.len() < size {
                        input.resize(size + BUFFER, 0);
                    }
                    break;
                }
                self.answer(&input[start..start + size])?;
                start += size;
                if self.out.len() >= BUFFER {
                    stream.write_all(&self.out)?;
                    self.out.clear();
                }
            }
            input.copy_within(start..filled, 0);
            filled -= start;
            stream.write_all(&self.out)?;
            self.out.clear();
        }
    }

    fn answer(&mut self, request: &[u8]) -> Result<()> {
        let Frame { tag, message, payload } = Frame::<Tmessage>::decode(request)?;
        let qid = Qid::default();
        let reply = match message {
            Tmessage::Tread { offset, count, .. } => {
                let start = self.out.len();
                self.out.resize(start + RREAD_LEN + count as usize, 0);
                let read = self.read.read_at(&mut self.out[start + RREAD_LEN..], offset)?;
                self.out.truncate(start + RREAD_LEN + read);
                (Rmessage::Rread { count: read as u32 }).encode(tag, &mut self.out[start..])?;
                return Ok(());
            }
            Tmessage::Treaddir { offset, .. } => {
                let payload = if offset == 0 { &self.listing[..] } else { &[] };
                let start = self.out.len();
                self.out.resize(start + RREAD_LEN, 0);
                (Rmessage::Rreaddir { count: payload.len() as u32 }).encode(tag, &mut self.out[start..])?;
                self.out.extend_from_slice(payload);
                return Ok(());
            }
            Tmessage::Twrite { offset, count, .. } => {
                self.written.write_all_at(payload, offset)?;
                Rmessage::Rwrite { count }
            }
            Tmessage::Tversion { msize, .. } => Rmessage::Rversion { msize, version: Str(VERSION_9P2000L) },
            Tmessage::Tattach { .. } => Rmessage::Rattach { qid },
            Tmessage::Twalk { names, .. } => Rmessage::Rwalk { qids: Qids::collect(names.iter().map(|_| qid))? },
            Tmessage::Tgetattr { .. } => Rmessage::Rgetattr { attributes: Attributes::default() },
            Tmessage::Tlopen { .. } => Rmessage::Rlopen { qid, iounit: 0 },
            Tmessage::Tlcreate { .. } => Rmessage::Rlcreate { qid, iounit: 0 },
            Tmessage::Tunlinkat { .. } => Rmessage::Runlinkat {},
            Tmessage::Tclunk { .. } => Rmessage::Rclunk {},
            _ => Rmessage::Rlerror { ecode: 95 },
        };
        let mut buffer = [0; 256];
        let length = reply.encode(tag, &mut buffer)?;
        self.out.extend_from_slice(&buffer[..length]);
        Ok(())
    }
}
