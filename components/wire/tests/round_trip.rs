//! What is encoded is decoded again, of every message; and what is cut off anywhere is refused.

mod support;

use std::collections::BTreeSet;

use ninering_wire::{
    DirEntries, Frame, HEADER_LEN, Header, Message, Rmessage, Tmessage, WireError,
    legacy::{self, Dialect, Plan9, Stat, Stats, Unix},
};
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

/// [`check`]s what the strategies make.
macro_rules! check_each {
    ($message:ty, $strategies:expr) => {
        for strategy in $strategies {
            TestRunner::new(some())
                .run(&(any::<u16>(), strategy), |(tag, message)| {
                    check(message, tag, |bytes| {
                        let frame = Frame::<$message>::decode(bytes)?;
                        Ok((frame.tag, frame.message == message, frame.payload.len()))
                    });
                    Ok(())
                })
                .unwrap();
        }
    };
}

#[test]
fn every_request_comes_back() {
    check_each!(Tmessage<'_>, requests());
}

#[test]
fn every_reply_comes_back() {
    check_each!(Rmessage<'_>, replies());
}

#[test]
fn every_request_of_plan_9_comes_back() {
    check_each!(legacy::Tmessage<'_, Plan9>, support::legacy::requests());
}

#[test]
fn every_reply_of_plan_9_comes_back() {
    check_each!(legacy::Rmessage<'_, Plan9>, support::legacy::replies());
}

#[test]
fn every_request_of_the_unix_extension_comes_back() {
    check_each!(legacy::Tmessage<'_, Unix>, support::legacy::requests());
}

#[test]
fn every_reply_of_the_unix_extension_comes_back() {
    check_each!(legacy::Rmessage<'_, Unix>, support::legacy::replies());
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
        (kinds(support::legacy::requests::<Plan9>()), legacy::Tmessage::<Plan9>::name_of),
        (kinds(support::legacy::replies::<Unix>()), legacy::Rmessage::<Unix>::name_of),
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
        let request = legacy::Tmessage::<Unix>::name_of(kind).map(|name| &name[1..]);
        let reply = legacy::Rmessage::<Unix>::name_of(kind + 1).map(|name| &name[1..]);
        if reply != Some("error") {
            assert_eq!(request, reply);
        }
    }
}

/// Stats in a row, as a directory is read.
fn check_stats<D: Dialect>(stats: &[Stat<'_, D>]) {
    let mut payload = vec![0; stats.iter().map(|stat| stat.encoded_len()).sum()];
    let mut filled = 0;
    for stat in stats {
        let length = stat.encode(&mut payload[filled..]).unwrap();
        assert_eq!(length, stat.encoded_len());
        filled += length;
    }
    assert_eq!(filled, payload.len());
    let decoded: Vec<_> = Stats::new(&payload).collect::<Result<_, _>>().unwrap();
    assert_eq!(decoded, stats);
    if let Some(last) = stats.last() {
        assert_eq!(last.encode(&mut vec![0; last.encoded_len() - 1]), Err(WireError::Overflow));
        let mut short = Stats::<D>::new(&payload[..filled - 1]);
        assert_eq!(short.by_ref().take(stats.len() - 1).filter(Result::is_ok).count(), stats.len() - 1);
        assert_eq!(short.next(), Some(Err(WireError::Truncated)));
        assert_eq!(short.next(), None);
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
    fn stats_come_back(
        plan9 in proptest::collection::vec(support::legacy::stat::<Plan9>(), 0..10),
        unix in proptest::collection::vec(support::legacy::stat::<Unix>(), 0..10),
    ) {
        check_stats(&plan9);
        check_stats(&unix);
    }

    #[test]
    fn arbitrary_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind: u8) {
        let _ = Header::decode(&bytes);
        let _ = DirEntries::new(&bytes).count();
        let _ = Stats::<Plan9>::new(&bytes).count();
        let _ = Stats::<Unix>::new(&bytes).count();
        one_way_to_write::<Tmessage<'_>>(kind, &bytes);
        one_way_to_write::<Rmessage<'_>>(kind, &bytes);
        one_way_to_write::<legacy::Tmessage<'_, Plan9>>(kind, &bytes);
        one_way_to_write::<legacy::Rmessage<'_, Plan9>>(kind, &bytes);
        one_way_to_write::<legacy::Tmessage<'_, Unix>>(kind, &bytes);
        one_way_to_write::<legacy::Rmessage<'_, Unix>>(kind, &bytes);
    }
}

/// What is decoded is encoded to the very same bytes.
fn one_way_to_write<'a, M: Message<'a>>(kind: u8, bytes: &'a [u8]) {
    let mut buffer = [0; 256];
    if let Ok((message, rest)) = M::decode_body(kind, bytes)
        && let Ok(length) = message.encode(1, &mut buffer)
    {
        assert_eq!(&buffer[HEADER_LEN..length], &bytes[..bytes.len() - rest.len()]);
    }
}
