//! What is no message is refused, for the reason that it has.

use ninering_wire::{
    DirEntries, DirEntry, Errno, Frame, Header, LockStatus, MAXWELEM, Message, NAME_MAX, Name, Names, Qid, Qids,
    Rmessage, Str, Tmessage, WireError,
    legacy::{self, Plan9, Stat, Stats, Unix},
};

fn request(bytes: &[u8]) -> Result<Tmessage<'_>, WireError> {
    Frame::<Tmessage>::decode(bytes).map(|frame| frame.message)
}

fn reply(bytes: &[u8]) -> Result<Rmessage<'_>, WireError> {
    Frame::<Rmessage>::decode(bytes).map(|frame| frame.message)
}

#[test]
fn a_header_counts_at_least_itself() {
    for size in 0..7_u8 {
        let bytes = [size, 0, 0, 0, 109, 0, 0];
        assert_eq!(Header::decode(&bytes), Err(WireError::BadSize(size.into())));
        assert_eq!(reply(&bytes), Err(WireError::BadSize(size.into())));
    }
    assert_eq!(reply(&[7, 0, 0, 0, 109, 0, 0]), Ok(Rmessage::Rflush {}));
}

#[test]
fn a_message_is_as_long_as_it_says() {
    let bytes = [8, 0, 0, 0, 109, 0, 0];
    assert_eq!(reply(&bytes), Err(WireError::BadSize(8)));
    let bytes = [0xff, 0xff, 0xff, 0xff, 109, 0, 0];
    assert_eq!(reply(&bytes), Err(WireError::BadSize(u32::MAX)));
    assert_eq!(reply(&[8, 0, 0, 0, 109, 0, 0, 0]), Err(WireError::TrailingBytes));
    assert_eq!(request(&[10, 0, 0, 0, 120, 0, 0, 1, 0, 0]), Err(WireError::Truncated));
}

#[test]
fn each_direction_has_its_own_messages() {
    for kind in 0..=u8::MAX {
        let bytes = [7, 0, 0, 0, kind, 0, 0];
        assert_eq!(request(&bytes) == Err(WireError::UnknownType(kind)), Tmessage::name_of(kind).is_none(), "{kind}");
        assert_eq!(reply(&bytes) == Err(WireError::UnknownType(kind)), Rmessage::name_of(kind).is_none(), "{kind}");
        assert!(Tmessage::name_of(kind).is_none() || Rmessage::name_of(kind).is_none(), "{kind}");
    }
    // Those of other dialects: Terror, Topen, Tcreate, Tstat, Twstat, and the Tlerror that is never sent.
    for kind in [6, 106, 112, 114, 124, 126] {
        assert_eq!(Tmessage::name_of(kind), None);
    }
    for kind in [107, 113, 115, 125, 127] {
        assert_eq!(Rmessage::name_of(kind), None);
    }
}

#[test]
fn each_dialect_has_its_own_messages() {
    for kind in 0..=u8::MAX {
        let bytes = [7, 0, 0, 0, kind, 0, 0];
        let request = Frame::<legacy::Tmessage<'_, Plan9>>::decode(&bytes).map(|_| ());
        let known = legacy::Tmessage::<Plan9>::name_of(kind).is_some();
        assert_eq!(request != Err(WireError::UnknownType(kind)), known, "{kind}");
        let reply = Frame::<legacy::Rmessage<'_, Unix>>::decode(&bytes).map(|_| ());
        let known = legacy::Rmessage::<Unix>::name_of(kind).is_some();
        assert_eq!(reply != Err(WireError::UnknownType(kind)), known, "{kind}");
        // Below 100 is 9P2000.L.
        assert!(kind >= 100 || !known);
    }
    assert_eq!(legacy::Tmessage::<Unix>::name_of(106), None, "Terror is never sent");
}

/// Of 9P2000.u, with strings of these lengths.
fn stat_with(lengths: [usize; 5]) -> Vec<u8> {
    let long = vec![b'x'; 65535];
    let [name, uid, gid, muid, extension] = lengths.map(|length| Str(&long[..length]));
    let stat = Stat::<Unix> { name, uid, gid, muid, extension: legacy::UnixOnly::new(extension), ..Stat::unchanged() };
    let mut bytes = vec![0; 70_000];
    let encoded = stat.encode(&mut bytes);
    if stat.encoded_len() > 2 + 65535 {
        assert_eq!(encoded, Err(WireError::Overflow));
        return Vec::new();
    }
    assert_eq!(encoded, Ok(stat.encoded_len()));
    bytes.truncate(stat.encoded_len());
    bytes
}

#[test]
fn a_stat_is_as_long_as_it_says() {
    let bytes = stat_with([3, 2, 2, 0, 7]);
    assert_eq!(bytes.len(), Stat::<Unix>::FIXED_LEN + 14);
    let decode = |bytes: &[u8]| Stats::<Unix>::new(bytes).next().map(|stat| stat.map(|_| ()));
    assert_eq!(decode(&bytes), Some(Ok(())));
    assert_eq!(decode(&bytes[..1]), Some(Err(WireError::Truncated)));
    let size = bytes.len() as u16 - 2;
    for (said, error) in
        [(0, WireError::Truncated), (size - 1, WireError::Truncated), (size + 1, WireError::TrailingBytes)]
    {
        let mut bytes = bytes.clone();
        bytes.extend([0; 9]);
        bytes[..2].copy_from_slice(&said.to_le_bytes());
        assert_eq!(decode(&bytes), Some(Err(error)), "{said}");
    }
    // What is longer than there are bytes is refused before its fields are.
    let mut bytes = bytes.clone();
    bytes[..2].copy_from_slice(&u16::MAX.to_le_bytes());
    assert_eq!(decode(&bytes), Some(Err(WireError::Truncated)));
    // The other dialect's is none.
    assert_eq!(Stats::<Plan9>::new(&stat_with([0; 5])).next(), Some(Err(WireError::TrailingBytes)));
}

#[test]
fn a_message_counts_its_stat() {
    let stat = stat_with([4, 0, 0, 0, 0]);
    let wstat = |count: u16, stat: &[u8]| {
        let body = [&[1, 0, 0, 0], &count.to_le_bytes()[..], stat].concat();
        legacy::Tmessage::<Unix>::decode_body(126, &body).map(|(_, rest)| rest.len())
    };
    let count = stat.len() as u16;
    assert_eq!(wstat(count, &stat), Ok(0));
    assert_eq!(wstat(count - 1, &stat), Err(WireError::Truncated));
    assert_eq!(wstat(count + 1, &stat), Err(WireError::Truncated));
    assert_eq!(wstat(count + 1, &[&stat[..], b"x"].concat()), Err(WireError::TrailingBytes));
    assert_eq!(wstat(0, &[]), Err(WireError::Truncated));
}

#[test]
fn a_stat_is_no_longer_than_its_size_can_tell() {
    let most = 2 + 65535 - Stat::<Unix>::FIXED_LEN;
    assert_eq!(stat_with([most, 0, 0, 0, 0]).len(), 2 + 65535);
    assert_eq!(stat_with([most - 10, 2, 2, 2, 4]).len(), 2 + 65535);
    assert!(stat_with([most, 0, 0, 0, 1]).is_empty());
    assert!(stat_with([65535; 5]).is_empty());
    // In a message there is the size of the size as well.
    let long = vec![b'x'; most];
    let rstat = |length: usize| {
        let stat = Stat::<Unix> { name: Str(&long[..length]), ..Stat::unchanged() };
        legacy::Rmessage::Rstat { stat: legacy::Counted(stat) }.encode(1, &mut vec![0; 70_000])
    };
    assert_eq!(rstat(most - 2), Ok(7 + 2 + 65535));
    assert_eq!(rstat(most - 1), Err(WireError::Overflow));
}

#[test]
fn a_walk_has_sixteen_names() {
    let walk = |count: u16| {
        let mut body = vec![0; 8];
        body.extend(count.to_le_bytes());
        body.extend(std::iter::repeat_n(0, 2 * usize::from(count)));
        body
    };
    assert!(Tmessage::decode_body(110, &walk(16)).is_ok());
    assert_eq!(Tmessage::decode_body(110, &walk(17)), Err(WireError::TooManyNames(17)));
    // The count is refused before anything is read that is not there.
    assert_eq!(Tmessage::decode_body(110, &walk(u16::MAX)[..10]), Err(WireError::TooManyNames(u16::MAX)));
    assert_eq!(Rmessage::decode_body(111, &[17, 0]), Err(WireError::TooManyNames(17)));
    assert_eq!(Rmessage::decode_body(111, &[1, 0]), Err(WireError::Truncated));

    assert_eq!(Names::new(&[Str(b"x"); MAXWELEM]).unwrap().len(), 16);
    assert_eq!(Names::new(&[Str(b"x"); MAXWELEM + 1]), Err(WireError::TooManyNames(17)));
    assert_eq!(Qids::new(&[Qid::default(); 17]), Err(WireError::TooManyNames(17)));
}

#[test]
fn locks_have_known_kinds_and_outcomes() {
    for byte in 0..=u8::MAX {
        let status = reply(&[8, 0, 0, 0, 53, 0, 0, byte]).map(|_| ());
        assert_eq!(status, if byte < 4 { Ok(()) } else { Err(WireError::BadValue) });
        let mut lock = [0; 27];
        lock[0] = byte;
        let decoded = Rmessage::decode_body(55, &lock).map(|_| ());
        assert_eq!(decoded, if byte < 3 { Ok(()) } else { Err(WireError::BadValue) });
    }
    assert_eq!(reply(&[8, 0, 0, 0, 53, 0, 0, 3]), Ok(Rmessage::Rlock { status: LockStatus::Grace }));
}

#[test]
fn a_payload_is_as_long_as_its_count() {
    let write = |count: u32, payload: &[u8]| {
        let mut buffer = vec![0; 64];
        let length = Tmessage::Twrite { fid: 1, offset: 0, count }.encode(1, &mut buffer).unwrap();
        buffer.truncate(length);
        buffer.extend(payload);
        let size = buffer.len() as u32;
        buffer[..4].copy_from_slice(&size.to_le_bytes());
        request(&buffer).map(|_| ())
    };
    assert_eq!(write(3, b"abc"), Ok(()));
    assert_eq!(write(4, b"abc"), Err(WireError::Truncated));
    assert_eq!(write(2, b"abc"), Err(WireError::TrailingBytes));
    assert_eq!(write(u32::MAX - 23, b"abc"), Err(WireError::Truncated));
    // What `size` cannot tell is not sent.
    let whole = Rmessage::Rread { count: u32::MAX - 11 }.encode(1, &mut [0; 11]);
    assert_eq!(whole, Ok(11));
    assert_eq!(Rmessage::Rread { count: u32::MAX - 10 }.encode(1, &mut [0; 11]), Err(WireError::Overflow));
    // Without its payload the message proper is still told, for whoever has the payload elsewhere.
    let (message, rest) = Rmessage::decode_body(117, &[5, 0, 0, 0, b'a']).unwrap();
    assert_eq!((message.payload_len(), rest), (5, &b"a"[..]));
}

#[test]
fn a_string_is_no_longer_than_its_length_can_tell() {
    let long = vec![b'x'; 65536];
    let mut buffer = vec![0; 70_000];
    let link = |target| Rmessage::Rreadlink { target: Str(target) };
    assert_eq!(link(&long).encode(1, &mut buffer), Err(WireError::Overflow));
    assert_eq!(link(&long[1..]).encode(1, &mut buffer), Ok(7 + 2 + 65535));
    assert_eq!(Rmessage::decode_body(23, b"\xff\xffxyz"), Err(WireError::Truncated));
    let entry = DirEntry { qid: Qid::default(), offset: 0, kind: 0, name: Str(&long) };
    assert_eq!(entry.encode(&mut buffer), Err(WireError::Overflow));
}

#[test]
fn a_listing_ends_at_its_first_error() {
    let mut bytes = [0; 60];
    let entry = DirEntry { qid: Qid::default(), offset: 9, kind: 8, name: Str(b"name") };
    let first = entry.encode(&mut bytes).unwrap();
    assert_eq!(first, DirEntry::FIXED_LEN + 4);
    for cut in first + 1..2 * first {
        entry.encode(&mut bytes[first..]).unwrap();
        let entries: Vec<_> = DirEntries::new(&bytes[..cut]).collect();
        assert_eq!(entries, [Ok(entry), Err(WireError::Truncated)]);
    }
    assert_eq!(DirEntries::new(&[]).next(), None);
}

#[test]
fn names_are_single_components() {
    for good in [&b"a"[..], b"...", b".a", b"a.", b"\xff", b" ", b"\\", &[b'n'; NAME_MAX]] {
        assert_eq!(Name::new(good).unwrap().as_bytes(), good);
    }
    for bad in [&b"."[..], b"..", b"/", b"a/b", b"/a", b"a/", b"a\0", b"\0"] {
        assert_eq!(Name::new(bad), Err(Errno::EINVAL), "{}", bad.escape_ascii());
    }
    assert_eq!(Name::new(b""), Err(Errno::ENOENT));
    assert_eq!(Name::new(&[b'n'; NAME_MAX + 1]), Err(Errno::ENAMETOOLONG));
}

#[test]
fn error_numbers_are_those_of_linux() {
    let mut known = 0;
    for number in 0..200 {
        let Some(name) = Errno(number).name() else { continue };
        known += 1;
        // "No such file or directory (os error 2)"
        let host = std::io::Error::from_raw_os_error(number as i32).to_string();
        let description = Errno(number).description();
        assert!(host.starts_with(&format!("{description} (")), "{name}: {description:?} is {host:?} here");
        assert_eq!(Errno(number).to_string(), format!("{description} ({name})"));
    }
    assert!(known > 40);
    assert_eq!(format!("{:?} {}", Errno(9999), Errno(9999)), "errno 9999 Unknown error (errno 9999)");
}

#[test]
fn errors_say_what_is_wrong() {
    for (error, text) in [
        (WireError::Truncated, "ends inside"),
        (WireError::TrailingBytes, "left behind"),
        (WireError::BadSize(3), "3 bytes"),
        (WireError::UnknownType(6), "type 6"),
        (WireError::TooManyNames(17), "17 names"),
        (WireError::BadValue, "not allowed"),
        (WireError::Overflow, "does not fit"),
    ] {
        assert!(error.to_string().contains(text), "{error}");
    }
}
