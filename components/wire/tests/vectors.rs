//! Messages byte by byte, as the protocol's description lays them out and Linux's client and servers send them.

use ninering_wire::{
    Attributes, DirEntries, DirEntry, Frame, Header, Lock, LockStatus, LockType, Message, Names, Qid, QidType, Qids,
    Rmessage, SetAttributes, Statfs, Str, Tmessage, getattr, lopen, mode, setattr,
};

/// The bytes in `hex`, in which spaces and line ends only separate.
fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// `hex` and `message`, tagged `tag`, are one another's translation.
#[track_caller]
fn check<'a, M: Message<'a> + PartialEq + std::fmt::Debug>(hex: &str, tag: u16, message: M) {
    let bytes: &'static [u8] = bytes(hex).leak();
    assert_eq!(bytes.len(), Header::decode(bytes).unwrap().size as usize, "the vector itself is wrong");
    let frame = Frame::<M>::decode(bytes).unwrap();
    assert_eq!((frame.tag, &frame.message), (tag, &message));
    let mut buffer = [0; 512];
    let length = message.encode(tag, &mut buffer).unwrap();
    assert_eq!(buffer[..length], bytes[..bytes.len() - frame.payload.len()]);
}

#[track_caller]
fn request(hex: &str, tag: u16, message: Tmessage<'_>) {
    check(hex, tag, message);
}

#[track_caller]
fn reply(hex: &str, tag: u16, message: Rmessage<'_>) {
    check(hex, tag, message);
}

const DIRECTORY: Qid = Qid { kind: QidType::DIR, version: 0x0102_0304, path: 0x1122_3344_5566_7788 };
const DIRECTORY_HEX: &str = "80 04030201 8877665544332211";

#[test]
fn a_session_begins() {
    // size[4] Tversion tag[2] msize[4] version[s]
    request(
        "1500000064ffff0020000008003950323030302e4c",
        0xffff,
        Tmessage::Tversion { msize: 8192, version: "9P2000.L".into() },
    );
    reply(
        "15000000 65 ffff 00001000 0800 3950323030302e4c",
        0xffff,
        Rmessage::Rversion { msize: 1 << 20, version: "9P2000.L".into() },
    );
    reply(
        "14000000 65 ffff 00200000 0700 756e6b6e6f776e",
        0xffff,
        Rmessage::Rversion { msize: 8192, version: "unknown".into() },
    );
    // size[4] Tauth tag[2] afid[4] uname[s] aname[s] n_uname[4]
    request(
        "18000000 66 0000 05000000 0400 726f6f74 0100 2f e8030000",
        0,
        Tmessage::Tauth { afid: 5, uname: "root".into(), aname: "/".into(), n_uname: 1000 },
    );
    // size[4] Tattach tag[2] fid[4] afid[4] uname[s] aname[s] n_uname[4]
    request(
        "1d000000 68 0100 00000000 ffffffff 0600 6e6f626f6479 0000 00000000",
        1,
        Tmessage::Tattach { fid: 0, afid: !0, uname: "nobody".into(), aname: "".into(), n_uname: 0 },
    );
    reply(&format!("14000000 69 0100 {DIRECTORY_HEX}"), 1, Rmessage::Rattach { qid: DIRECTORY });
    // size[4] Rlerror tag[2] ecode[4]
    reply("0b000000 07 0100 02000000", 1, Rmessage::Rlerror { ecode: 2 });
    request("09000000 6c 0200 0100", 2, Tmessage::Tflush { oldtag: 1 });
    reply("07000000 6d 0200", 2, Rmessage::Rflush {});
}

#[test]
fn a_fid_walks_and_is_clunked() {
    // size[4] Twalk tag[2] fid[4] newfid[4] nwname[2] nwname*(wname[s])
    let names = ["usr".into(), "..".into()];
    let names = Names::new(&names).unwrap();
    request(
        "1a000000 6e 0000 01000000 02000000 0200 0300 757372 0200 2e2e",
        0,
        Tmessage::Twalk { fid: 1, newfid: 2, names },
    );
    request(
        "11000000 6e 0000 01000000 02000000 0000",
        0,
        Tmessage::Twalk { fid: 1, newfid: 2, names: Names::default() },
    );
    // size[4] Rwalk tag[2] nwqid[2] nwqid*(wqid[13])
    let file = Qid { kind: QidType::FILE, version: 1, path: 2 };
    reply(
        &format!("23000000 6f 0000 0200 {DIRECTORY_HEX} 00 01000000 0200000000000000"),
        0,
        Rmessage::Rwalk { qids: Qids::new(&[DIRECTORY, file]).unwrap() },
    );
    request("0b000000 78 0000 02000000", 0, Tmessage::Tclunk { fid: 2 });
    request("0b000000 7a 0000 02000000", 0, Tmessage::Tremove { fid: 2 });
}

#[test]
fn a_file_is_opened_read_and_written() {
    // size[4] Tlopen tag[2] fid[4] flags[4]
    request(
        "0f000000 0c 0000 01000000 02800000",
        0,
        Tmessage::Tlopen { fid: 1, flags: lopen::RDWR | lopen::LARGEFILE },
    );
    // size[4] Rlopen tag[2] qid[13] iounit[4]
    reply(&format!("18000000 0d 0000 {DIRECTORY_HEX} 00000000"), 0, Rmessage::Rlopen { qid: DIRECTORY, iounit: 0 });
    // size[4] Tlcreate tag[2] fid[4] name[s] flags[4] mode[4] gid[4]
    request(
        "1c000000 0e 0000 01000000 0300 6e6577 41000000 a4810000 64000000",
        0,
        Tmessage::Tlcreate {
            fid: 1,
            name: "new".into(),
            flags: lopen::WRONLY | lopen::CREATE,
            mode: mode::IFREG | 0o644,
            gid: 100,
        },
    );
    // size[4] Tread tag[2] fid[4] offset[8] count[4]
    request(
        "17000000 74 0000 01000000 0000000001000000 00100000",
        0,
        Tmessage::Tread { fid: 1, offset: 1 << 32, count: 4096 },
    );
    // size[4] Rread tag[2] count[4] data[count]
    reply("0e000000 75 0000 03000000 616263", 0, Rmessage::Rread { count: 3 });
    // size[4] Twrite tag[2] fid[4] offset[8] count[4] data[count]
    request(
        "1a000000 76 0000 01000000 0500000000000000 03000000 616263",
        0,
        Tmessage::Twrite { fid: 1, offset: 5, count: 3 },
    );
    reply("0b000000 77 0000 03000000", 0, Rmessage::Rwrite { count: 3 });
    // size[4] Tfsync tag[2] fid[4] datasync[4]
    request("0f000000 32 0000 01000000 01000000", 0, Tmessage::Tfsync { fid: 1, datasync: 1 });
}

#[test]
fn attributes_are_told_and_changed() {
    // size[4] Tgetattr tag[2] fid[4] request_mask[8]
    request(
        "13000000 18 0000 01000000 ff07000000000000",
        0,
        Tmessage::Tgetattr { fid: 1, request_mask: getattr::BASIC },
    );
    // size[4] Rgetattr tag[2] valid[8] qid[13] mode[4] uid[4] gid[4] nlink[8] rdev[8] size[8] blksize[8] blocks[8]
    // atime_sec[8] atime_nsec[8] mtime_sec[8] mtime_nsec[8] ctime_sec[8] ctime_nsec[8] btime_sec[8] btime_nsec[8]
    // gen[8] data_version[8]
    reply(
        &format!(
            "a0000000 19 0000 ff07000000000000 {DIRECTORY_HEX} ed410000 e8030000 e9030000 0200000000000000
             0000000000000000 0010000000000000 0002000000000000 0800000000000000 0100000000000000 0200000000000000
             0300000000000000 0400000000000000 0500000000000000 0600000000000000 0700000000000000 0900000000000000
             0a00000000000000 0b00000000000000"
        ),
        0,
        Rmessage::Rgetattr {
            attributes: (&Attributes {
                valid: getattr::BASIC,
                qid: DIRECTORY,
                mode: mode::IFDIR | 0o755,
                uid: 1000,
                gid: 1001,
                nlink: 2,
                rdev: 0,
                size: 4096,
                blksize: 512,
                blocks: 8,
                atime_sec: 1,
                atime_nsec: 2,
                mtime_sec: 3,
                mtime_nsec: 4,
                ctime_sec: 5,
                ctime_nsec: 6,
                btime_sec: 7,
                btime_nsec: 9,
                generation: 10,
                data_version: 11,
            })
                .into(),
        },
    );
    // size[4] Tsetattr tag[2] fid[4] valid[4] mode[4] uid[4] gid[4] size[8] atime_sec[8] atime_nsec[8] mtime_sec[8]
    // mtime_nsec[8]
    request(
        "43000000 1a 0000 01000000 09000000 a4010000 ffffffff feffffff 0500000000000000 0100000000000000
         0200000000000000 0300000000000000 0400000000000000",
        0,
        Tmessage::Tsetattr {
            fid: 1,
            attributes: (&SetAttributes {
                valid: setattr::MODE | setattr::SIZE,
                mode: 0o644,
                uid: !0,
                gid: !1,
                size: 5,
                atime_sec: 1,
                atime_nsec: 2,
                mtime_sec: 3,
                mtime_nsec: 4,
            })
                .into(),
        },
    );
    request("0b000000 08 0000 01000000", 0, Tmessage::Tstatfs { fid: 1 });
    // size[4] Rstatfs tag[2] type[4] bsize[4] blocks[8] bfree[8] bavail[8] files[8] ffree[8] fsid[8] namelen[4]
    reply(
        "43000000 09 0000 97190201 00100000 0100000000000000 0200000000000000 0300000000000000 0400000000000000
         0500000000000000 0600000000000000 ff000000",
        0,
        Rmessage::Rstatfs {
            statfs: (&Statfs {
                kind: 0x0102_1997,
                bsize: 4096,
                blocks: 1,
                bfree: 2,
                bavail: 3,
                files: 4,
                ffree: 5,
                fsid: 6,
                namelen: 255,
            })
                .into(),
        },
    );
}

#[test]
fn a_directory_is_listed_and_changed() {
    // size[4] Treaddir tag[2] fid[4] offset[8] count[4]
    request(
        "17000000 28 0000 01000000 0000000000000000 00200000",
        0,
        Tmessage::Treaddir { fid: 1, offset: 0, count: 8192 },
    );
    // size[4] Rreaddir tag[2] count[4] count*(qid[13] offset[8] type[1] name[s])
    let listing = format!("24000000 29 0000 19000000 {DIRECTORY_HEX} 2a00000000000000 04 0100 61");
    reply(&listing, 0, Rmessage::Rreaddir { count: 25 });
    let listing = bytes(&listing);
    let entry = DirEntry { qid: DIRECTORY, offset: 42, kind: 4, name: Str(b"a") };
    assert_eq!(DirEntries::new(&listing[11..]).collect::<Vec<_>>(), [Ok(entry)]);
    // size[4] Tmkdir tag[2] dfid[4] name[s] mode[4] gid[4]
    request(
        "17000000 48 0000 01000000 0200 6161 ed010000 00000000",
        0,
        Tmessage::Tmkdir { dfid: 1, name: "aa".into(), mode: 0o755, gid: 0 },
    );
    // size[4] Tsymlink tag[2] fid[4] name[s] symtgt[s] gid[4]
    request(
        "16000000 10 0000 01000000 0100 61 0200 2e2e 00000000",
        0,
        Tmessage::Tsymlink { fid: 1, name: "a".into(), target: "..".into(), gid: 0 },
    );
    reply("0b000000 17 0000 0200 2e2e", 0, Rmessage::Rreadlink { target: "..".into() });
    // size[4] Tmknod tag[2] dfid[4] name[s] mode[4] major[4] minor[4] gid[4]
    request(
        "1e000000 12 0000 01000000 0100 61 b6210000 01000000 03000000 04000000",
        0,
        Tmessage::Tmknod { fid: 1, name: "a".into(), mode: mode::IFCHR | 0o666, major: 1, minor: 3, gid: 4 },
    );
    // size[4] Tlink tag[2] dfid[4] fid[4] name[s]
    request("12000000 46 0000 01000000 02000000 0100 61", 0, Tmessage::Tlink { dfid: 1, fid: 2, name: "a".into() });
    // size[4] Trename tag[2] fid[4] dfid[4] name[s]
    request("12000000 14 0000 01000000 02000000 0100 61", 0, Tmessage::Trename { fid: 1, dfid: 2, name: "a".into() });
    // size[4] Trenameat tag[2] olddirfid[4] oldname[s] newdirfid[4] newname[s]
    request(
        "15000000 4a 0000 01000000 0100 61 02000000 0100 62",
        0,
        Tmessage::Trenameat { olddirfid: 1, oldname: "a".into(), newdirfid: 2, newname: "b".into() },
    );
    // size[4] Tunlinkat tag[2] dirfd[4] name[s] flags[4]
    request(
        "12000000 4c 0000 01000000 0100 61 00020000",
        0,
        Tmessage::Tunlinkat { dirfid: 1, name: "a".into(), flags: ninering_wire::AT_REMOVEDIR },
    );
}

#[test]
fn locks_and_extended_attributes_are_asked_for() {
    // size[4] Tlock tag[2] fid[4] type[1] flags[4] start[8] length[8] proc_id[4] client_id[s]
    request(
        "28000000 34 0000 01000000 01 01000000 0a00000000000000 0000000000000000 07000000 0200 766d",
        0,
        Tmessage::Tlock {
            fid: 1,
            kind: LockType::Write,
            flags: ninering_wire::lock::FLAGS_BLOCK,
            start: 10,
            length: 0,
            proc_id: 7,
            client_id: "vm".into(),
        },
    );
    reply("08000000 35 0000 01", 0, Rmessage::Rlock { status: LockStatus::Blocked });
    // size[4] Tgetlock tag[2] fid[4] type[1] start[8] length[8] proc_id[4] client_id[s]
    let lock = Lock { kind: LockType::Read, start: 10, length: 5, proc_id: 7, client_id: "vm".into() };
    request(
        "24000000 36 0000 01000000 00 0a00000000000000 0500000000000000 07000000 0200 766d",
        0,
        Tmessage::Tgetlock { fid: 1, lock },
    );
    reply(
        "20000000 37 0000 02 0a00000000000000 0500000000000000 07000000 0200 766d",
        0,
        Rmessage::Rgetlock { lock: Lock { kind: LockType::Unlock, ..lock } },
    );
    // size[4] Txattrwalk tag[2] fid[4] newfid[4] name[s]
    request(
        "17000000 1e 0000 01000000 02000000 0600 757365722e78",
        0,
        Tmessage::Txattrwalk { fid: 1, newfid: 2, name: "user.x".into() },
    );
    reply("0f000000 1f 0000 0300000000000000", 0, Rmessage::Rxattrwalk { size: 3 });
    // size[4] Txattrcreate tag[2] fid[4] name[s] attr_size[8] flags[4]
    request(
        "1f000000 20 0000 01000000 0600 757365722e78 0300000000000000 01000000",
        0,
        Tmessage::Txattrcreate { fid: 1, name: "user.x".into(), size: 3, flags: 1 },
    );
}

/// Those of 9P2000 and 9P2000.u, laid out as section 5 of Plan 9's manual and the extension's draft have it.
mod legacy {
    use ninering_wire::legacy::{Counted, Plan9, Rmessage, Stat, Stats, Tmessage, Unix, UnixOnly, open, perm};

    use super::{DIRECTORY, DIRECTORY_HEX, bytes, check};

    #[test]
    fn users_have_numbers_in_the_unix_extension() {
        // size[4] Tattach tag[2] fid[4] afid[4] uname[s] aname[s], and n_uname[4]
        check::<Tmessage<'_, Plan9>>(
            "19000000 68 0100 00000000 ffffffff 0600 6e6f626f6479 0000",
            1,
            Tmessage::Tattach {
                fid: 0,
                afid: !0,
                uname: "nobody".into(),
                aname: "".into(),
                n_uname: UnixOnly::default(),
            },
        );
        check::<Tmessage<'_, Unix>>(
            "1d000000 68 0100 00000000 ffffffff 0600 6e6f626f6479 0000 e8030000",
            1,
            Tmessage::Tattach {
                fid: 0,
                afid: !0,
                uname: "nobody".into(),
                aname: "".into(),
                n_uname: UnixOnly::new(1000),
            },
        );
        check::<Tmessage<'_, Plan9>>(
            "14000000 66 0100 05000000 0400 726f6f74 0100 2f",
            1,
            Tmessage::Tauth { afid: 5, uname: "root".into(), aname: "/".into(), n_uname: UnixOnly::default() },
        );
    }

    #[test]
    fn errors_have_texts_and_in_the_unix_extension_numbers() {
        // size[4] Rerror tag[2] ename[s], and errno[4]
        let ename = "Bad address".into();
        check::<Rmessage<'_, Plan9>>(
            "14000000 6b 0100 0b00 4261642061646472657373",
            1,
            Rmessage::Rerror { ename, errno: UnixOnly::default() },
        );
        check::<Rmessage<'_, Unix>>(
            "18000000 6b 0100 0b00 4261642061646472657373 0e000000",
            1,
            Rmessage::Rerror { ename, errno: UnixOnly::new(14) },
        );
    }

    #[test]
    fn files_are_opened_and_made() {
        // size[4] Topen tag[2] fid[4] mode[1]
        check::<Tmessage<'_, Plan9>>(
            "0c000000 70 0100 07000000 51",
            1,
            Tmessage::Topen { fid: 7, mode: open::WRITE | open::TRUNC | open::RCLOSE },
        );
        check::<Rmessage<'_, Plan9>>(
            &format!("18000000 71 0100 {DIRECTORY_HEX} 00100000"),
            1,
            Rmessage::Ropen { qid: DIRECTORY, iounit: 4096 },
        );
        // size[4] Tcreate tag[2] fid[4] name[s] perm[4] mode[1], and extension[s]
        check::<Tmessage<'_, Plan9>>(
            "15000000 72 0100 07000000 0300 646972 ed010080 00",
            1,
            Tmessage::Tcreate {
                fid: 7,
                name: "dir".into(),
                perm: perm::DIR | 0o755,
                mode: open::READ,
                extension: UnixOnly::default(),
            },
        );
        check::<Tmessage<'_, Unix>>(
            "1c000000 72 0100 07000000 0300 736461 b0018000 00 0500 6220382031",
            1,
            Tmessage::Tcreate {
                fid: 7,
                name: "sda".into(),
                perm: perm::DEVICE | 0o660,
                mode: open::READ,
                extension: UnixOnly::new("b 8 1".into()),
            },
        );
        check::<Rmessage<'_, Unix>>(
            &format!("18000000 73 0100 {DIRECTORY_HEX} 00000000"),
            1,
            Rmessage::Rcreate { qid: DIRECTORY, iounit: 0 },
        );
    }

    fn plan9() -> Stat<'static, Plan9> {
        Stat {
            kind: 1,
            dev: 2,
            qid: DIRECTORY,
            mode: perm::DIR | 0o755,
            atime: 3,
            mtime: 4,
            length: 5,
            name: "usr".into(),
            uid: "ken".into(),
            gid: "sys".into(),
            muid: "rob".into(),
            extension: UnixOnly::default(),
            n_uid: UnixOnly::default(),
            n_gid: UnixOnly::default(),
            n_muid: UnixOnly::default(),
        }
    }
    // size[2] type[2] dev[4] qid[13] mode[4] atime[4] mtime[4] length[8] name[s] uid[s] gid[s] muid[s]
    const PLAN9_HEX: &str = "3b00 0100 02000000 80 04030201 8877665544332211 ed010080 03000000 04000000
        0500000000000000 0300 757372 0300 6b656e 0300 737973 0300 726f62";
    // And extension[s] n_uid[4] n_gid[4] n_muid[4]
    const UNIX_HEX: &str = "4b00 0100 02000000 80 04030201 8877665544332211 ed010080 03000000 04000000
        0500000000000000 0300 757372 0300 6b656e 0300 737973 0300 726f62 0200 6c6e 06000000 07000000 08000000";

    fn unix() -> Stat<'static, Unix> {
        let Stat { kind, dev, qid, mode, atime, mtime, length, name, uid, gid, muid, .. } = plan9();
        Stat {
            kind,
            dev,
            qid,
            mode,
            atime,
            mtime,
            length,
            name,
            uid,
            gid,
            muid,
            extension: UnixOnly::new("ln".into()),
            n_uid: UnixOnly::new(6),
            n_gid: UnixOnly::new(7),
            n_muid: UnixOnly::new(8),
        }
    }

    #[test]
    fn files_are_described() {
        check::<Tmessage<'_, Unix>>("0b000000 7c 0100 07000000", 1, Tmessage::Tstat { fid: 7 });
        // size[4] Rstat tag[2] n[2] stat[n]
        check::<Rmessage<'_, Plan9>>(
            &format!("46000000 7d 0100 3d00 {PLAN9_HEX}"),
            1,
            Rmessage::Rstat { stat: Counted(plan9()) },
        );
        check::<Rmessage<'_, Unix>>(
            &format!("56000000 7d 0100 4d00 {UNIX_HEX}"),
            1,
            Rmessage::Rstat { stat: Counted(unix()) },
        );
        // size[4] Twstat tag[2] fid[4] n[2] stat[n]
        check::<Tmessage<'_, Unix>>(
            &format!("5a000000 7e 0100 07000000 4d00 {UNIX_HEX}"),
            1,
            Tmessage::Twstat { fid: 7, stat: Counted(unix()) },
        );
        check::<Tmessage<'_, Plan9>>(
            "3e000000 7e 0100 07000000 3100 2f00 ffff ffffffff ff ffffffff ffffffffffffffff ffffffff ffffffff
             ffffffff ffffffffffffffff 0000 0000 0000 0000",
            1,
            Tmessage::Twstat { fid: 7, stat: Counted(Stat::unchanged()) },
        );
        check::<Rmessage<'_, Plan9>>("07000000 7f 0100", 1, Rmessage::Rwstat {});
    }

    #[test]
    fn a_directory_is_a_row_of_them() {
        let row = bytes(&format!("{PLAN9_HEX}{PLAN9_HEX}"));
        assert_eq!(Stats::new(&row).collect::<Result<Vec<_>, _>>(), Ok(vec![plan9(), plan9()]));
        let row = bytes(&format!("{UNIX_HEX}{UNIX_HEX}"));
        assert_eq!(Stats::new(&row).collect::<Result<Vec<_>, _>>(), Ok(vec![unix(), unix()]));
    }
}
