//! Messages on a connection, one by one.

use std::io::{ErrorKind, Read, Write};

use ninering_wire::{Frame, Rmessage, Tmessage, getattr};

use super::{ROOT, encode, receive};

pub fn send(connection: &mut impl Write, tag: u16, message: &Tmessage<'_>) {
    connection.write_all(&encode(tag, message, &[])).unwrap();
}

/// The next reply's tag, and its type's name.
pub fn next(connection: &mut impl Read) -> (u16, &'static str) {
    let reply = receive(connection).unwrap();
    let frame = Frame::<Rmessage<'_>>::decode(&reply).unwrap();
    (frame.tag, frame.message.name())
}

/// Does the other side close it, without a word?
pub fn is_closed(connection: &mut impl Read) -> bool {
    match connection.read(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

pub const READ: Tmessage<'static> = Tmessage::Tread { fid: 1, offset: 0, count: 10 };
pub const GETATTR: Tmessage<'static> = Tmessage::Tgetattr { fid: ROOT, request_mask: getattr::ALL };
