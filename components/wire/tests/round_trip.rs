//! What is encoded is decoded again, of every message; and what is cut off anywhere is refused.

mod support;

use std::collections::BTreeSet;

use ninering_wire::{DirEntries, Frame, HEADER_LEN, Header, Message, Rmessage, Tmessage, WireError};
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use support::{dir_entry, replies, requests};

/// As much as the largest message takes: a walk of sixteen names of 65,535 bytes.
const LARGEST: usize = 1 << 21;

/// Encodes `message`, and has it decoded again with as much payload as it counts, where that is little. `decode` tells
/// the tag, whether it was the same message, and how long the payload was.
fn check<'a, M: Message<'a> + std::fmt::Debug>(
    message: M,
    tag: u16,
    decode: impl Fn(&[u8]) -> Result<(u16, bool, usize), WireError>,
) {
    let mut buffer = vec![0; LARGEST];
    let length = message.encode(tag, &mut buffer).unwrap();
    let header = Header::decode(&buffer).unwrap();
    assert_eq!(header.encode(), buffer[..HEADER_LEN]);
    assert_eq!((header.tag, header.kind), (tag, message.kind()));
    assert_eq!(header.size as usize, length + message.payload_len() as usize);

    // Every shorter buffer is too small. Of the long messages not all are tried, which would take long.
    let beginnings =
        |length: usize| (0..length).filter(move |cut| length < 300 || cut % 1009 == 0 || cut + 1 == length);
    let mut encoded = vec![0; length];
    assert_eq!(message.encode(tag, &mut encoded), Ok(length), "it fits exactly");
    for short in beginnings(length) {
        assert_eq!(message.encode(tag, &mut encoded[..short]), Err(WireError::Overflow));
    }

    let whole = header.size as usize;
    if whole < buffer.len() {
        assert_eq!(decode(&buffer[..whole]), Ok((tag, true, whole - length)));
        assert_eq!(decode(&buffer[..whole + 1]), Err(WireError::BadSize(header.size)));
        for cut in beginnings(whole) {
            let expected = if cut < HEADER_LEN { WireError::Truncated } else { WireError::BadSize(header.size) };
            assert_eq!(decode(&buffer[..cut]), Err(expected));
        }
        // The same with a `size` that owns up to it.
        for cut in beginnings(whole).skip_while(|&cut| cut < HEADER_LEN) {
            buffer[..4].copy_from_slice(&(cut as u32).to_le_bytes());
            assert_eq!(decode(&buffer[..cut]), Err(WireError::Truncated), "{message:?} in {cut} bytes");
        }
        buffer[..4].copy_from_slice(&(header.size + 1).to_le_bytes());
        assert_eq!(decode(&buffer[..whole + 1]), Err(WireError::TrailingBytes));
    }
}

/// How often each message is tried.
fn some() -> ProptestConfig {
    ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() }
}

#[test]
fn every_request_comes_back() {
    for strategy in requests() {
        TestRunner::new(some())
            .run(&(any::<u16>(), strategy), |(tag, message)| {
                check(message, tag, |bytes| {
                    let frame = Frame::<Tmessage>::decode(bytes)?;
                    Ok((frame.tag, frame.message == message, frame.payload.len()))
                });
                Ok(())
            })
            .unwrap();
    }
}

#[test]
fn every_reply_comes_back() {
    for strategy in replies() {
        TestRunner::new(some())
            .run(&(any::<u16>(), strategy), |(tag, message)| {
                check(message, tag, |bytes| {
                    let frame = Frame::<Rmessage>::decode(bytes)?;
                    Ok((frame.tag, frame.message == message, frame.payload.len()))
                });
                Ok(())
            })
            .unwrap();
    }
}

/// The type numbers of what the strategies make.
fn kinds<M: Message<'static>>(strategies: Vec<impl Strategy<Value = M>>) -> Vec<u8> {
    let mut runner = TestRunner::deterministic();
    let kinds = strategies.iter().map(|strategy| strategy.new_tree(&mut runner).unwrap().current().kind());
    kinds.collect()
}

#[test]
fn no_message_is_forgotten_here() {
    for (tried, name_of) in [
        (kinds(requests()), Tmessage::name_of as fn(u8) -> Option<&'static str>),
        (kinds(replies()), Rmessage::name_of),
    ] {
        let known: Vec<u8> = (0..=u8::MAX).filter(|&kind| name_of(kind).is_some()).collect();
        assert_eq!(tried.iter().copied().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>(), known);
        assert_eq!(tried.len(), known.len());
    }
}

#[test]
fn each_request_has_its_reply() {
    for kind in 0..u8::MAX {
        let request = Tmessage::name_of(kind).map(|name| &name[1..]);
        let reply = Rmessage::name_of(kind + 1).map(|name| &name[1..]);
        // The one reply that answers any request.
        if reply != Some("lerror") {
            assert_eq!(request, reply);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn directory_entries_come_back(entries in proptest::collection::vec(dir_entry(), 0..20)) {
        let mut payload = vec![0; entries.iter().map(|entry| entry.encoded_len()).sum()];
        let mut filled = 0;
        for entry in &entries {
            let length = entry.encode(&mut payload[filled..]).unwrap();
            prop_assert_eq!(length, entry.encoded_len());
            filled += length;
        }
        prop_assert_eq!(filled, payload.len());
        let decoded: Vec<_> = DirEntries::new(&payload).collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(&decoded, &entries);
        if let Some(last) = entries.last() {
            prop_assert_eq!(last.encode(&mut vec![0; last.encoded_len() - 1]), Err(WireError::Overflow));
            // One byte short, all but the last are there, then an error, then the end.
            let mut short = DirEntries::new(&payload[..filled - 1]);
            prop_assert_eq!(short.by_ref().take(entries.len() - 1).filter(Result::is_ok).count(), entries.len() - 1);
            prop_assert_eq!(short.next(), Some(Err(WireError::Truncated)));
            prop_assert_eq!(short.next(), None);
        }
    }

    #[test]
    fn arbitrary_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind: u8) {
        let _ = Header::decode(&bytes);
        let _ = DirEntries::new(&bytes).count();
        let mut buffer = [0; 256];
        // What is decoded is encoded to the very same bytes: there is one way to write a message.
        if let Ok((message, rest)) = Tmessage::decode_body(kind, &bytes)
            && let Ok(length) = message.encode(1, &mut buffer)
        {
            prop_assert_eq!(&buffer[HEADER_LEN..length], &bytes[..bytes.len() - rest.len()]);
        }
        if let Ok((message, rest)) = Rmessage::decode_body(kind, &bytes)
            && let Ok(length) = message.encode(1, &mut buffer)
        {
            prop_assert_eq!(&buffer[HEADER_LEN..length], &bytes[..bytes.len() - rest.len()]);
        }
    }
}
