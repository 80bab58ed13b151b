//! Decodes arbitrary bytes as a message of each dialect and either direction, and as a listing. What is decoded must encode to the same
//! bytes again.
//!
//! The note at the top of `Cargo.toml` says how to run it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ninering_wire::{
    DirEntries, Frame, HEADER_LEN, Header, Message, Name, RREAD_LEN, Rmessage, Tmessage, WireError,
    legacy::{self, Dialect, Plan9, Stats, Unix},
};

fuzz_target!(|bytes: &[u8]| {
    round_trip::<Tmessage<'_>>(bytes);
    round_trip::<Rmessage<'_>>(bytes);
    round_trip::<legacy::Tmessage<'_, Plan9>>(bytes);
    round_trip::<legacy::Rmessage<'_, Plan9>>(bytes);
    round_trip::<legacy::Tmessage<'_, Unix>>(bytes);
    round_trip::<legacy::Rmessage<'_, Unix>>(bytes);
    for listed in [Some(bytes), bytes.get(RREAD_LEN..)].into_iter().flatten() {
        listing(listed);
        stats::<Plan9>(listed);
        stats::<Unix>(listed);
    }
    if let Ok(name) = Name::new(bytes) {
        assert!(!name.contains(&b'/') && !name.contains(&0) && &*name != b"." && &*name != b"..");
    }
});

fn round_trip<'a, M: Message<'a> + PartialEq + std::fmt::Debug>(bytes: &'a [u8]) {
    let Ok(header) = Header::decode(bytes) else {
        assert!(Frame::<M>::decode(bytes).is_err());
        return;
    };
    // The frame is not asked about first: a transport decodes a body before its payload has come.
    let Ok((message, payload)) = M::decode_body(header.kind, &bytes[HEADER_LEN..]) else {
        assert!(Frame::<M>::decode(bytes).is_err());
        return;
    };
    assert_eq!(message.kind(), header.kind);
    let proper = &bytes[..bytes.len() - payload.len()];
    let mut buffer = vec![0; proper.len()];
    match message.encode(header.tag, &mut buffer) {
        Ok(length) => {
            assert_eq!(length, proper.len());
            // But for `size`, which tells how long the message is, not how long it came.
            assert_eq!(buffer[4..], proper[4..]);
            let size = Header::decode(&buffer).unwrap().size as usize;
            assert_eq!(size, proper.len() + message.payload_len() as usize);
        }
        // Only a count can be too large for `size`.
        Err(error) => {
            assert_eq!(error, WireError::Overflow);
            assert!(proper.len() + message.payload_len() as usize > u32::MAX as usize);
        }
    }
    if let Ok(frame) = Frame::<M>::decode(bytes) {
        assert_eq!((frame.tag, frame.message, frame.payload), (header.tag, message, payload));
        assert_eq!(bytes.len(), header.size as usize);
        assert_eq!(buffer, proper);
    }
}

fn listing(payload: &[u8]) {
    let mut buffer = Vec::new();
    let mut rest = payload;
    let mut entries = DirEntries::new(payload);
    for entry in entries.by_ref() {
        let Ok(entry) = entry else { break };
        buffer.resize(entry.encoded_len(), 0);
        assert_eq!(entry.encode(&mut buffer), Ok(buffer.len()));
        let (same, behind) = rest.split_at(buffer.len());
        assert_eq!(same, buffer);
        rest = behind;
    }
    assert!(entries.next().is_none());
}

fn stats<D: Dialect>(payload: &[u8]) {
    let mut buffer = Vec::new();
    let mut rest = payload;
    let mut stats = Stats::<D>::new(payload);
    for stat in stats.by_ref() {
        let Ok(stat) = stat else { break };
        buffer.resize(stat.encoded_len(), 0);
        assert_eq!(stat.encode(&mut buffer), Ok(buffer.len()));
        let (same, behind) = rest.split_at(buffer.len());
        assert_eq!(same, buffer);
        rest = behind;
    }
    assert!(stats.next().is_none());
}
