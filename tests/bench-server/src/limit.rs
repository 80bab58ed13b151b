//! A server that does nothing but answer: what the machine's sockets, memory and filesystem allow, measured as the others are.
//!
//! It answers every request with a reply of the right length, on a thread for each connection. It knows of no fids, names
//! and permissions; but what only the kernel can do is done, by one system call each and nothing else: to read and write, to
//! list, to ask for attributes, to open and close, to make and remove.

use std::{
    collections::HashMap,
    fs::File,
    io::{Read, Write},
    mem::MaybeUninit,
    os::unix::fs::FileExt,
    path::Path,
    thread,
};

use anyhow::{Context, Result};
use ninering_wire::{
    Attributes, DirEntry, Frame, Header, MAXWELEM, Qid, Qids, RREAD_LEN, Rmessage, Str, Tmessage, VERSION_9P2000L,
    lopen,
};

use rustix::fs::{AtFlags, Mode, OFlags, RawDir, SeekFrom, StatxFlags, openat, statx, unlinkat};

use super::{
    connection::ROOT,
    server::{Bound, bind},
};

/// Bytes that are received and sent at a time, at the least.
const BUFFER: usize = 1 << 18;
/// Bytes of entries that are asked for at a time, as the C library does.
const ENTRIES: usize = 1 << 15;
/// The file that is looked at and opened, whichever is asked for.
const ONE_FILE: &str = "read";

/// Serves on `address` for ever.
pub(crate) fn serve(address: &str, directory: &Path) -> Result<()> {
    match bind(address)? {
        Bound::Tcp(listener) => {
            for stream in listener.incoming() {
                let stream = stream?;
                stream.set_nodelay(true)?;
                start(stream, directory)?;
            }
        }
        Bound::Unix(listener) => {
            for stream in listener.incoming() {
                start(stream?, directory)?;
            }
        }
    }
    Ok(())
}

fn start(stream: impl Read + Write + Send + 'static, directory: &Path) -> Result<()> {
    let read = File::open(directory.join(ONE_FILE))?;
    let written = File::options().write(true).open(directory.join("written-0"))?;
    let listed = directory.join("many");
    let listed = File::open(&listed).with_context(|| listed.display().to_string())?;
    let (export, made_in) = (File::open(directory)?, File::open(directory)?);
    let (open, entries, out) = (HashMap::new(), [MaybeUninit::uninit(); ENTRIES], Vec::new());
    let mut limit = Limit { read, written, listed, export, made_in, open, entries, out };
    thread::spawn(move || {
        if let Err(error) = limit.answer_all(stream) {
            eprintln!("limit: {error:#}");
        }
    });
    Ok(())
}

struct Limit {
    read: File,
    written: File,
    listed: File,
    export: File,
    /// The directory where files are made: the last one that was walked to from the root.
    made_in: File,
    /// What was made or opened for reading, by its fid.
    open: HashMap<u32, File>,
    entries: [MaybeUninit<u8>; ENTRIES],
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

    /// Appends all entries of the directory, as the payload of an `Rreaddir` has them.
    fn list(&mut self) -> Result<()> {
        rustix::fs::seek(&self.listed, SeekFrom::Start(0))?;
        let mut entries = RawDir::new(&self.listed, &mut self.entries);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let qid = Qid { path: entry.ino(), ..Qid::default() };
            let name = Str(entry.file_name().to_bytes());
            let entry = DirEntry { qid, offset: entry.next_entry_cookie(), kind: 8, name };
            let start = self.out.len();
            self.out.resize(start + entry.encoded_len(), 0);
            entry.encode(&mut self.out[start..])?;
        }
        Ok(())
    }

    fn answer(&mut self, request: &[u8]) -> Result<()> {
        let Frame { tag, message, payload } = Frame::<Tmessage>::decode(request)?;
        let (qid, qids, attributes) = (Qid::default(), [Qid::default(); MAXWELEM], Attributes::default());
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
                let start = self.out.len();
                self.out.resize(start + RREAD_LEN, 0);
                if offset == 0 {
                    self.list()?;
                }
                let count = self.out.len() - start - RREAD_LEN;
                (Rmessage::Rreaddir { count: count as u32 }).encode(tag, &mut self.out[start..])?;
                return Ok(());
            }
            Tmessage::Twrite { fid, offset, count } => {
                self.open.get(&fid).unwrap_or(&self.written).write_all_at(payload, offset)?;
                Rmessage::Rwrite { count }
            }
            Tmessage::Tversion { msize, .. } => Rmessage::Rversion { msize, version: Str(VERSION_9P2000L) },
            Tmessage::Tattach { .. } => Rmessage::Rattach { qid },
            Tmessage::Twalk { fid, names, .. } => {
                if let (ROOT, Some(name)) = (fid, names.iter().next()) {
                    self.made_in = openat(&self.export, name.0, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?.into();
                }
                Rmessage::Rwalk { qids: Qids::new(&qids[..names.len()])? }
            }
            Tmessage::Tgetattr { .. } => {
                statx(&self.export, ONE_FILE, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)?;
                Rmessage::Rgetattr { attributes: (&attributes).into() }
            }
            Tmessage::Tlopen { fid, flags } => {
                if flags & lopen::ACCMODE == lopen::RDONLY {
                    let file = openat(&self.export, ONE_FILE, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
                    self.open.insert(fid, file.into());
                }
                Rmessage::Rlopen { qid, iounit: 0 }
            }
            Tmessage::Tlcreate { fid, name, mode, .. } => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                let file = openat(&self.made_in, name.0, flags, Mode::from_raw_mode(mode))?;
                self.open.insert(fid, file.into());
                Rmessage::Rlcreate { qid, iounit: 0 }
            }
            Tmessage::Tunlinkat { name, .. } => {
                unlinkat(&self.made_in, name.0, AtFlags::empty())?;
                Rmessage::Runlinkat {}
            }
            Tmessage::Tclunk { fid } => {
                drop(self.open.remove(&fid));
                Rmessage::Rclunk {}
            }
            _ => Rmessage::Rlerror { ecode: 95 },
        };
        let mut buffer = [0; 256];
        let length = reply.encode(tag, &mut buffer)?;
        self.out.extend_from_slice(&buffer[..length]);
        Ok(())
    }
}
