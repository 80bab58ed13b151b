//! Whatever is asked for in a dialect, it is answered in that.

use std::sync::Arc;

use ninering::server::Server;
use ninering_wire::{
    Message, NOFID, Names, Str,
    legacy::{self, Dialect, Plan9, Stat, Unix, UnixOnly},
};
use proptest::prelude::*;

use crate::{Servers, common::legacy::LegacyClient};

/// What a request is made of; which fields matter, its type decides.
type Parts = (u8, [u32; 2], String, u32, u8, [u64; 2], Vec<String>);

fn parts() -> impl Strategy<Value = Parts> {
    let fid = || prop_oneof![8 => 0..8_u32, 1 => Just(NOFID)];
    let known = vec!["a", "b", "c", "d", "", ".", "..", "/", "0", "1", "b 8 1", "c 1 3"];
    let name = move || prop_oneof![9 => prop::sample::select(known.clone()).prop_map(String::from), 1 => ".{0,20}"];
    let perm = prop_oneof![4 => 0..0o1000_u32, 4 => (0..32_u32).prop_map(|bit| 1 << bit | 0o644), 1 => any::<u32>()];
    let number = || prop_oneof![4 => 0..500_u64, 1 => Just(u64::MAX), 1 => any::<u64>()];
    let mode = prop_oneof![3 => 0..4_u8, 2 => any::<u8>()];
    (any::<u8>(), [fid(), fid()], name.clone()(), perm, mode, [number(), number()], prop::collection::vec(name(), 0..4))
}

fn request<'a, D: Dialect>((kind, fids, name, perm, mode, numbers, names): &'a Parts) -> legacy::Tmessage<'a, D> {
    let (&[fid, newfid], &[offset, count]) = (fids, numbers);
    let extension = UnixOnly::new(names.first().map_or("", String::as_str).into());
    match kind % 11 {
        0 => {
            let names: Vec<_> = names.iter().map(|name| Str::from(name.as_str())).collect();
            legacy::Tmessage::Twalk { fid, newfid, names: Names::new(names.leak()).unwrap() } // a test is short
        }
        1 => legacy::Tmessage::Topen { fid, mode: *mode },
        2 | 3 => legacy::Tmessage::Tcreate { fid, name: name.as_str().into(), perm: *perm, mode: *mode, extension },
        4 => legacy::Tmessage::Tread { fid, offset, count: count as u32 },
        5 => legacy::Tmessage::Twrite { fid, offset: offset % 100_000, count: (count % 5) as u32 },
        6 => legacy::Tmessage::Tclunk { fid },
        7 => legacy::Tmessage::Tremove { fid },
        8 => legacy::Tmessage::Tstat { fid },
        9 => legacy::Tmessage::Tattach {
            fid,
            afid: NOFID,
            uname: "".into(),
            aname: "".into(),
            n_uname: UnixOnly::new(0),
        },
        _ => {
            let mut stat = Stat { name: name.as_str().into(), ..Stat::unchanged() };
            if perm % 3 == 0 {
                stat.mode = *perm;
            }
            if offset % 2 == 0 {
                stat.length = offset % 10_000;
            }
            if count % 2 == 0 {
                stat.mtime = *numbers.last().unwrap() as u32;
            }
            stat.extension = extension;
            legacy::Tmessage::Twstat { fid, stat: legacy::Counted(stat) }
        }
    }
}

/// Each is answered by its own reply or an `Rerror`, whole.
fn any_requests_are_answered<D: Dialect>(server: &Arc<Server>, all: &[Parts]) {
    let mut client = LegacyClient::<D>::attached(server);
    for parts in all {
        let message = request::<D>(parts);
        let payload = vec![0x5a; message.payload_len() as usize];
        let _ = client.call(&message, &payload);
    }
    client.begin();
    let _ = client.names("");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_requests_are_answered_in_plan_9(all in prop::collection::vec(parts(), 1..60)) {
        let servers = Servers::new();
        any_requests_are_answered::<Plan9>(&servers.mem, &all);
        any_requests_are_answered::<Plan9>(&servers.dir, &all);
    }

    #[test]
    fn any_requests_are_answered_in_unix(all in prop::collection::vec(parts(), 1..60)) {
        let servers = Servers::new();
        any_requests_are_answered::<Unix>(&servers.mem, &all);
        any_requests_are_answered::<Unix>(&servers.dir, &all);
    }
}
