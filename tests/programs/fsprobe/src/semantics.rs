//! What `std::fs` promises, each promise a check of its own.
//!
//! A check gets an empty directory. To add one, write a function and name it in [`CHECKS`].

use std::collections::BTreeSet;
use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::{Outcome, errno};

type Check = fn(&Path) -> Outcome;

macro_rules! checks {
    ($($name:ident,)*) => { &[$((stringify!($name), $name)),*] };
}

const CHECKS: &[(&str, Check)] = checks![
    open_without_create_needs_the_file,
    create_keeps_the_content_and_truncate_drops_it,
    create_new_refuses_an_existing_file,
    create_new_refuses_a_dangling_symlink,
    a_handle_does_only_what_it_was_opened_for,
    a_directory_cannot_be_opened_for_writing,
    seek_then_read_and_write,
    seek_before_the_start_is_refused,
    reading_at_and_after_the_end_gives_nothing,
    writing_after_the_end_leaves_zeros_between,
    empty_reads_and_writes_do_nothing,
    vectored_reads_and_writes,
    large_writes_at_odd_offsets,
    overwriting_in_the_middle_keeps_the_rest,
    set_len_grows_with_zeros_and_shrinks,
    set_len_does_not_move_the_cursor,
    append_goes_to_the_end_whatever_the_cursor,
    append_from_two_handles_loses_nothing,
    what_one_handle_writes_another_reads,
    metadata_sees_what_was_just_written,
    sync_all_and_sync_data,
    read_to_string_and_write_helpers,
    copy_helper,
    sparse_file_of_one_gibibyte,
    metadata_tells_length_and_type,
    modification_time_advances_with_a_write,
    set_times_to_the_nanosecond,
    create_dir_needs_its_parent_and_a_free_name,
    create_dir_all_is_content_with_what_exists,
    deeply_nested_directories,
    read_dir_of_an_empty_directory,
    read_dir_lists_names_and_types,
    read_dir_of_1500_entries_lists_each_once,
    entries_can_be_removed_while_listing,
    remove_dir_refuses_one_that_is_not_empty,
    remove_dir_refuses_a_file,
    remove_file_refuses_a_directory,
    remove_dir_all_removes_a_tree,
    rename_to_a_free_name,
    rename_over_a_file_replaces_it,
    rename_onto_itself_does_nothing,
    rename_over_a_directory,
    rename_of_a_directory_takes_its_content_along,
    rename_of_a_directory_into_itself_is_refused,
    rename_of_an_open_file_keeps_the_handle,
    removal_of_an_open_file_keeps_the_handle,
    hard_links_share_one_file,
    hard_link_refuses_an_existing_name,
    symlink_reads_back_and_is_followed,
    symlink_with_dots_is_followed,
    symlink_to_nothing,
    symlink_loop_is_an_error,
    removal_of_a_symlink_keeps_its_target,
    missing_names_are_not_found,
    a_file_is_no_directory_on_the_way,
    names_of_255_bytes_and_not_of_256,
    names_with_unusual_characters,
    dot_and_dot_dot_in_paths,
    a_hundred_open_files,
    reuse_of_a_name_is_another_file,
];

/// Runs all checks in a directory of their own under `root`, goes on after a failure, and names
/// each that passes.
pub(crate) fn semantics(root: &Path) -> Outcome {
    let top = root.join("semantics");
    if top.exists() {
        fs::remove_dir_all(&top)?;
    }
    fs::create_dir(&top).map_err(|error| format!("{}: {error}", top.display()))?;
    let mut failures = 0;
    for (name, check) in CHECKS {
        let directory = top.join(name);
        let outcome = fs::create_dir(&directory)
            .map_err(|error| format!("cannot create its directory: {error}").into())
            .and_then(|()| check(&directory))
            .and_then(|()| {
                fs::remove_dir_all(&directory).map_err(|error| format!("cannot remove its directory: {error}").into())
            });
        match outcome {
            Ok(()) => println!("ok {name}"),
            Err(error) => {
                failures += 1;
                eprintln!("FAIL {name}: {error}");
            }
        }
    }
    if failures > 0 {
        return Err(format!("{failures} of {} checks failed", CHECKS.len()).into());
    }
    fs::remove_dir(&top)?;
    println!("semantics: all {} checks passed", CHECKS.len());
    Ok(())
}

/// Fails with the values when they differ.
fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Outcome {
    if found == expected {
        return Ok(());
    }
    // Contents can be long; the start tells enough.
    let start = |value: T| format!("{value:?}").chars().take(100).collect::<String>();
    let (found, expected) = (start(found), start(expected));
    Err(format!("{what}: found {found}, expected {expected}").into())
}

/// Fails unless the operation fails with one of these error numbers.
fn refused<T>(what: &str, result: io::Result<T>, numbers: &[i32]) -> Outcome {
    match result {
        Ok(_) => Err(format!("{what}: succeeded, and must not").into()),
        Err(error) if error.raw_os_error().is_some_and(|n| numbers.contains(&n)) => Ok(()),
        Err(error) => Err(format!("{what}: {error:?}, expected one of {numbers:?}").into()),
    }
}

#[allow(deprecated, reason = "the only function of stable std that makes a symbolic link on Unix and on WASI alike")]
pub(crate) fn symlink(target: &str, link: &Path) -> io::Result<()> {
    fs::soft_link(target, link)
}

/// Bytes without a short period, so that a piece in the wrong place is seen.
fn pattern(length: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_769) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn read_write(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.open(path)
}

fn names(directory: &Path) -> io::Result<BTreeSet<String>> {
    fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

fn open_without_create_needs_the_file(root: &Path) -> Outcome {
    let path = root.join("f");
    refused("read", File::open(&path), &[errno::ENOENT])?;
    let opened = OpenOptions::new().write(true).open(&path);
    refused("write", opened, &[errno::ENOENT])?;
    same("exists", path.exists(), false)
}

fn create_keeps_the_content_and_truncate_drops_it(root: &Path) -> Outcome {
    let path = root.join("f");
    fs::write(&path, "0123456789")?;
    drop(read_write(&path)?);
    same("after create", fs::read_to_string(&path)?.as_str(), "0123456789")?;
    drop(File::create(&path)?);
    same("after truncate", fs::metadata(&path)?.len(), 0)
}

fn create_new_refuses_an_existing_file(root: &Path) -> Outcome {
    let path = root.join("f");
    File::create_new(&path)?.write_all(b"first")?;
    let second = File::create_new(&path);
    let kind = second.as_ref().err().map(io::Error::kind);
    same("kind", kind, Some(io::ErrorKind::AlreadyExists))?;
    refused("create_new", second, &[errno::EEXIST])?;
    refused("over a directory", File::create_new(root), &[errno::EEXIST])?;
    same("content", fs::read(&path)?.as_slice(), b"first")
}

fn create_new_refuses_a_dangling_symlink(root: &Path) -> Outcome {
    symlink("target", &root.join("link"))?;
    refused("create_new", File::create_new(root.join("link")), &[errno::EEXIST])?;
    same("target exists", root.join("target").exists(), false)
}

fn a_handle_does_only_what_it_was_opened_for(root: &Path) -> Outcome {
    let path = root.join("f");
    fs::write(&path, "content")?;
    // Which error it is differs between WASI hosts (EBADF, EPERM, ENOTCAPABLE).
    let mut reader = File::open(&path)?;
    let written = reader.write_all(b"x").and_then(|()| reader.sync_all());
    same("write to a reader fails", written.is_err(), true)?;
    same("set_len of a reader fails", reader.set_len(0).is_err(), true)?;
    let mut writer = OpenOptions::new().write(true).open(&path)?;
    same("read from a writer fails", writer.read(&mut [0; 4]).is_err(), true)?;
    same("content", fs::read(&path)?.as_slice(), b"content")
}

fn a_directory_cannot_be_opened_for_writing(root: &Path) -> Outcome {
    let opened = OpenOptions::new().write(true).open(root);
    refused("open", opened, &[errno::EISDIR])
}

fn seek_then_read_and_write(root: &Path) -> Outcome {
    let mut file = read_write(&root.join("f"))?;
    file.write_all(b"0123456789")?;
    same("position", file.stream_position()?, 10)?;
    same("from the start", file.seek(SeekFrom::Start(3))?, 3)?;
    let mut piece = [0; 4];
    file.read_exact(&mut piece)?;
    same("read", piece, *b"3456")?;
    same("backwards", file.seek(SeekFrom::Current(-2))?, 5)?;
    file.write_all(b"xy")?;
    same("from the end", file.seek(SeekFrom::End(-1))?, 9)?;
    file.write_all(b"z!")?;
    file.rewind()?;
    let mut content = String::new();
    file.read_to_string(&mut content)?;
    same("content", content.as_str(), "01234xy78z!")
}

fn seek_before_the_start_is_refused(root: &Path) -> Outcome {
    let mut file = read_write(&root.join("f"))?;
    file.write_all(b"abc")?;
    refused("seek", file.seek(SeekFrom::End(-4)), &[errno::EINVAL])?;
    same("position", file.stream_position()?, 3)
}

fn reading_at_and_after_the_end_gives_nothing(root: &Path) -> Outcome {
    let mut file = read_write(&root.join("f"))?;
    file.write_all(b"abc")?;
    let mut buffer = [7; 8];
    same("at the end", file.read(&mut buffer)?, 0)?;
    file.seek(SeekFrom::Start(1 << 40))?;
    same("after the end", file.read(&mut buffer)?, 0)?;
    same("buffer", buffer, [7; 8])?;
    file.seek(SeekFrom::Start(2))?;
    same("across the end", file.read(&mut buffer)?, 1)?;
    same("length", file.metadata()?.len(), 3)
}

fn writing_after_the_end_leaves_zeros_between(root: &Path) -> Outcome {
    let path = root.join("f");
    let mut file = read_write(&path)?;
    file.write_all(b"start")?;
    file.seek(SeekFrom::Start(10_000))?;
    file.write_all(b"end")?;
    let mut expected = b"start".to_vec();
    expected.resize(10_000, 0);
    expected.extend_from_slice(b"end");
    same("content", fs::read(&path)?, expected)
}

fn empty_reads_and_writes_do_nothing(root: &Path) -> Outcome {
    let mut file = read_write(&root.join("f"))?;
    same("write", file.write(&[])?, 0)?;
    same("length", file.metadata()?.len(), 0)?;
    file.write_all(b"abc")?;
    file.rewind()?;
    same("read", file.read(&mut [])?, 0)?;
    file.seek(SeekFrom::Start(100))?;
    same("write after the end", file.write(&[])?, 0)?;
    same("length", file.metadata()?.len(), 3)
}

fn vectored_reads_and_writes(root: &Path) -> Outcome {
    let path = root.join("f");
    let mut file = read_write(&path)?;
    let written = file.write_vectored(&[IoSlice::new(b"one "), IoSlice::new(b""), IoSlice::new(b"two")])?;
    // A short write is allowed; nothing else is.
    same("written", written > 0 && written <= 7, true)?;
    same("content", fs::read(&path)?.as_slice(), &b"one two"[..written])?;
    file.rewind()?;
    let (mut first, mut second) = ([0; 2], [0; 8]);
    let buffers = &mut [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
    let read = file.read_vectored(buffers)?;
    let joined = [first.as_slice(), second.as_slice()].concat();
    same("read", &joined[..read], &b"one two"[..read])
}

fn large_writes_at_odd_offsets(root: &Path) -> Outcome {
    let path = root.join("f");
    let content = pattern(3_000_017, 1);
    let mut file = read_write(&path)?;
    file.write_all(b"odd")?;
    file.write_all(&content)?;
    file.seek(SeekFrom::Start(3))?;
    let mut back = vec![0; content.len()];
    file.read_exact(&mut back)?;
    same("through the same handle", back == content, true)?;
    same("through another", fs::read(&path)?[3..] == content, true)?;
    for (offset, length) in [(4095, 2), (65_535, 131_074), (1_048_575, 1_048_578)] {
        file.seek(SeekFrom::Start(3 + offset as u64))?;
        let mut back = vec![0; length];
        file.read_exact(&mut back)?;
        let expected = &content[offset..offset + length];
        same("a piece of it", back == expected, true)?;
    }
    Ok(())
}

fn overwriting_in_the_middle_keeps_the_rest(root: &Path) -> Outcome {
    let path = root.join("f");
    let mut expected = pattern(100_000, 2);
    fs::write(&path, &expected)?;
    let piece = pattern(30_001, 3);
    let mut file = read_write(&path)?;
    file.seek(SeekFrom::Start(12_345))?;
    file.write_all(&piece)?;
    drop(file);
    expected[12_345..12_345 + piece.len()].copy_from_slice(&piece);
    same("content", fs::read(&path)? == expected, true)
}

fn set_len_grows_with_zeros_and_shrinks(root: &Path) -> Outcome {
    let path = root.join("f");
    let mut file = read_write(&path)?;
    file.write_all(b"0123456789")?;
    file.set_len(4)?;
    same("shrunk", fs::read(&path)?.as_slice(), b"0123")?;
    // What was cut off must not come back.
    file.set_len(8)?;
    same("grown", fs::read(&path)?.as_slice(), b"0123\0\0\0\0")?;
    file.set_len(0)?;
    same("emptied", fs::metadata(&path)?.len(), 0)
}

fn set_len_does_not_move_the_cursor(root: &Path) -> Outcome {
    let path = root.join("f");
    let mut file = read_write(&path)?;
    file.write_all(b"0123456789")?;
    file.set_len(2)?;
    same("position", file.stream_position()?, 10)?;
    file.write_all(b"x")?;
    same("content", fs::read(&path)?.as_slice(), b"01\0\0\0\0\0\0\0\0x")
}

fn append_goes_to_the_end_whatever_the_cursor(root: &Path) -> Outcome {
    let path = root.join("f");
    fs::write(&path, "one")?;
    let mut file = OpenOptions::new().append(true).read(true).open(&path)?;
    file.write_all(b"two")?;
    file.rewind()?;
    file.write_all(b"three")?;
    same("content", fs::read_to_string(&path)?.as_str(), "onetwothree")?;
    fs::write(&path, "")?;
    file.write_all(b"four")?;
    same("after truncation", fs::read_to_string(&path)?.as_str(), "four")
}

fn append_from_two_handles_loses_nothing(root: &Path) -> Outcome {
    let path = root.join("f");
    let open = || OpenOptions::new().append(true).create(true).open(&path);
    let (mut left, mut right) = (open()?, open()?);
    let mut expected = String::new();
    for number in 0..100 {
        let (line, file) = match number % 2 {
            0 => (format!("left {number}\n"), &mut left),
            _ => (format!("right {number}\n"), &mut right),
        };
        file.write_all(line.as_bytes())?;
        expected.push_str(&line);
    }
    same("content", fs::read_to_string(&path)?, expected)
}

fn what_one_handle_writes_another_reads(root: &Path) -> Outcome {
    let path = root.join("f");
    let mut writer = read_write(&path)?;
    let mut reader = File::open(&path)?;
    let mut buffer = [0; 16];
    same("before", reader.read(&mut buffer)?, 0)?;
    writer.write_all(b"first")?;
    // For a WASI 0.2 stream an end is the end: only a seek makes the program take a new stream.
    reader.rewind()?;
    same("grown", reader.read(&mut buffer)?, 5)?;
    same("content", &buffer[..5], b"first")?;
    // The reader may have kept what it read: an overwrite must show all the same.
    writer.rewind()?;
    writer.write_all(b"FIRST")?;
    reader.rewind()?;
    same("again", reader.read(&mut buffer)?, 5)?;
    same("new content", &buffer[..5], b"FIRST")?;
    writer.set_len(2)?;
    reader.rewind()?;
    same("after truncation", reader.read(&mut buffer)?, 2)
}

fn metadata_sees_what_was_just_written(root: &Path) -> Outcome {
    let path = root.join("f");
    let mut file = read_write(&path)?;
    for step in 1..=20 {
        file.write_all(&[b'x'; 777])?;
        same("by handle", file.metadata()?.len(), step * 777)?;
        same("by path", fs::metadata(&path)?.len(), step * 777)?;
    }
    Ok(())
}

fn sync_all_and_sync_data(root: &Path) -> Outcome {
    let path = root.join("f");
    let mut file = read_write(&path)?;
    file.write_all(b"a")?;
    file.sync_data()?;
    file.write_all(b"b")?;
    file.sync_all()?;
    same("content", fs::read(&path)?.as_slice(), b"ab")?;
    // A directory is synced through a handle that reads. Some WASI hosts sync none.
    match File::open(root)?.sync_all() {
        Err(error) if error.raw_os_error() == Some(errno::EBADF) && cfg!(target_os = "wasi") => {}
        result => result?,
    }
    Ok(())
}

fn read_to_string_and_write_helpers(root: &Path) -> Outcome {
    let path = root.join("f");
    fs::write(&path, "täxt")?;
    same("text", fs::read_to_string(&path)?.as_str(), "täxt")?;
    fs::write(&path, [0xff])?;
    let error = fs::read_to_string(&path).err().map(|error| error.kind());
    same("not UTF-8", error, Some(io::ErrorKind::InvalidData))?;
    // A WASI host may say EBADF, as a directory is no stream.
    let numbers = [errno::EISDIR, errno::EBADF];
    refused("of a directory", fs::read(root), &numbers)
}

fn copy_helper(root: &Path) -> Outcome {
    let content = pattern(300_000, 4);
    fs::write(root.join("a"), &content)?;
    fs::write(root.join("b"), "what was there before")?;
    same("bytes", fs::copy(root.join("a"), root.join("b"))?, 300_000)?;
    same("content", fs::read(root.join("b"))? == content, true)
}

fn sparse_file_of_one_gibibyte(root: &Path) -> Outcome {
    let path = root.join("f");
    let mut file = read_write(&path)?;
    file.set_len(1 << 30)?;
    same("length", fs::metadata(&path)?.len(), 1 << 30)?;
    let mut piece = [1; 4096];
    file.seek(SeekFrom::Start(512 << 20))?;
    file.read_exact(&mut piece)?;
    same("zeros", piece, [0; 4096])?;
    file.seek(SeekFrom::Start((1 << 30) - 2))?;
    file.write_all(b"end!")?;
    same("length", fs::metadata(&path)?.len(), (1 << 30) + 2)?;
    file.seek(SeekFrom::End(-6))?;
    let mut end = Vec::new();
    file.read_to_end(&mut end)?;
    same("end", end.as_slice(), b"\0\0end!")
}

fn metadata_tells_length_and_type(root: &Path) -> Outcome {
    let path = root.join("f");
    fs::write(&path, "12345")?;
    symlink("f", &root.join("link"))?;
    let file = fs::metadata(&path)?;
    same("file", (file.is_file(), file.is_dir(), file.len()), (true, false, 5))?;
    let directory = fs::metadata(root)?;
    let types = (directory.is_dir(), directory.is_file());
    same("directory", types, (true, false))?;
    let link = fs::symlink_metadata(root.join("link"))?;
    let types = (link.is_symlink(), link.is_file(), link.len());
    same("link", types, (true, false, 1))?;
    let followed = fs::metadata(root.join("link"))?;
    same("followed", (followed.is_file(), followed.len()), (true, 5))?;
    same("directory by handle", File::open(root)?.metadata()?.is_dir(), true)
}

fn modification_time_advances_with_a_write(root: &Path) -> Outcome {
    let path = root.join("f");
    fs::write(&path, "a")?;
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let mut file = read_write(&path)?;
    file.set_times(FileTimes::new().set_modified(old))?;
    same("set", fs::metadata(&path)?.modified()?, old)?;
    file.write_all(b"b")?;
    file.sync_all()?;
    let new = fs::metadata(&path)?.modified()?;
    // A generous limit: the server's clock is not this one's.
    let now = SystemTime::now();
    let distance = now.duration_since(new).unwrap_or_else(|error| error.duration());
    same("is recent", distance < Duration::from_secs(3600), true)?;
    let before = fs::metadata(root)?.modified()?;
    std::thread::sleep(Duration::from_millis(20));
    fs::write(root.join("g"), "")?;
    same("the directory's too", fs::metadata(root)?.modified()? > before, true)
}

fn set_times_to_the_nanosecond(root: &Path) -> Outcome {
    let path = root.join("f");
    let file = read_write(&path)?;
    let accessed = SystemTime::UNIX_EPOCH + Duration::new(1_111_111_111, 123_456_789);
    let modified = SystemTime::UNIX_EPOCH + Duration::new(2_000_000_000, 987_654_321);
    let both = FileTimes::new().set_accessed(accessed).set_modified(modified);
    file.set_times(both)?;
    let found = fs::metadata(&path)?;
    let times = (found.accessed()?, found.modified()?);
    same("both", times, (accessed, modified))?;
    file.set_times(FileTimes::new().set_modified(accessed))?;
    let found = fs::metadata(&path)?;
    let times = (found.accessed()?, found.modified()?);
    same("one only", times, (accessed, accessed))
}

fn create_dir_needs_its_parent_and_a_free_name(root: &Path) -> Outcome {
    refused("no parent", fs::create_dir(root.join("a/b")), &[errno::ENOENT])?;
    fs::create_dir(root.join("a"))?;
    refused("twice", fs::create_dir(root.join("a")), &[errno::EEXIST])?;
    fs::write(root.join("f"), "")?;
    refused("over a file", fs::create_dir(root.join("f")), &[errno::EEXIST])?;
    refused("in a file", fs::create_dir(root.join("f/d")), &[errno::ENOTDIR])
}

fn create_dir_all_is_content_with_what_exists(root: &Path) -> Outcome {
    fs::create_dir_all(root.join("a/b/c"))?;
    fs::create_dir_all(root.join("a/b/c"))?;
    fs::create_dir_all(root.join("a/b/d"))?;
    same("names", names(&root.join("a/b"))?.len(), 2)
}

fn deeply_nested_directories(root: &Path) -> Outcome {
    let mut path = root.to_owned();
    for level in 0..60 {
        path.push(format!("level{level}"));
    }
    fs::create_dir_all(&path)?;
    fs::write(path.join("f"), "deep")?;
    same("content", fs::read(path.join("f"))?.as_slice(), b"deep")
}

fn read_dir_of_an_empty_directory(root: &Path) -> Outcome {
    same("entries", fs::read_dir(root)?.count(), 0)?;
    refused("none there", fs::read_dir(root.join("d")), &[errno::ENOENT])?;
    fs::write(root.join("f"), "")?;
    refused("a file", fs::read_dir(root.join("f")), &[errno::ENOTDIR])
}

fn read_dir_lists_names_and_types(root: &Path) -> Outcome {
    fs::write(root.join("file"), "")?;
    fs::create_dir(root.join("directory"))?;
    symlink("file", &root.join("link"))?;
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let listed = entry.file_type()?;
        same("type", listed, entry.metadata()?.file_type())?;
        let letter = match listed {
            listed if listed.is_dir() => 'd',
            listed if listed.is_symlink() => 'l',
            listed if listed.is_file() => 'f',
            _ => '?',
        };
        found.insert(format!("{letter} {}", entry.file_name().to_string_lossy()));
    }
    let expected = ["d directory", "f file", "l link"].map(String::from);
    same("entries", found, BTreeSet::from(expected))
}

fn read_dir_of_1500_entries_lists_each_once(root: &Path) -> Outcome {
    let mut expected = Vec::new();
    for number in 0..1500 {
        // Long names, so that the listing takes several messages.
        let name = format!("{number:04}-{}", "n".repeat(number % 150));
        fs::write(root.join(&name), "")?;
        expected.push(name);
    }
    let mut listed = fs::read_dir(root)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<Vec<_>>>()?;
    listed.sort();
    same("count", listed.len(), expected.len())?;
    same("names", listed, expected)
}

fn entries_can_be_removed_while_listing(root: &Path) -> Outcome {
    for number in 0..400 {
        fs::write(root.join(format!("file-with-a-longer-name-{number}")), "")?;
    }
    for entry in fs::read_dir(root)? {
        fs::remove_file(entry?.path())?;
    }
    same("left", names(root)?.len(), 0)
}

fn remove_dir_refuses_one_that_is_not_empty(root: &Path) -> Outcome {
    fs::create_dir_all(root.join("d/e"))?;
    let numbers = [errno::ENOTEMPTY, errno::EEXIST];
    refused("remove_dir", fs::remove_dir(root.join("d")), &numbers)?;
    fs::remove_dir(root.join("d/e"))?;
    fs::remove_dir(root.join("d"))?;
    same("exists", root.join("d").exists(), false)
}

fn remove_dir_refuses_a_file(root: &Path) -> Outcome {
    fs::write(root.join("f"), "")?;
    refused("remove_dir", fs::remove_dir(root.join("f")), &[errno::ENOTDIR])?;
    refused("none there", fs::remove_dir(root.join("g")), &[errno::ENOENT])
}

fn remove_file_refuses_a_directory(root: &Path) -> Outcome {
    fs::create_dir(root.join("d"))?;
    // POSIX says EPERM, Linux EISDIR.
    let numbers = [errno::EISDIR, errno::EPERM];
    refused("remove_file", fs::remove_file(root.join("d")), &numbers)?;
    refused("none there", fs::remove_file(root.join("g")), &[errno::ENOENT])
}

fn remove_dir_all_removes_a_tree(root: &Path) -> Outcome {
    let top = root.join("top");
    for number in 0..50 {
        let directory = top.join(format!("a{}/b{number}", number % 5));
        fs::create_dir_all(&directory)?;
        fs::write(directory.join("f"), "")?;
    }
    // A link is removed, not followed.
    fs::create_dir(root.join("kept"))?;
    fs::write(root.join("kept/f"), "")?;
    symlink("../kept", &top.join("link"))?;
    fs::remove_dir_all(&top)?;
    same("exists", top.exists(), false)?;
    same("kept", root.join("kept/f").exists(), true)
}

fn rename_to_a_free_name(root: &Path) -> Outcome {
    fs::write(root.join("a"), "content")?;
    fs::create_dir(root.join("d"))?;
    fs::rename(root.join("a"), root.join("d/b"))?;
    same("old name", root.join("a").exists(), false)?;
    same("content", fs::read(root.join("d/b"))?.as_slice(), b"content")?;
    let renamed = fs::rename(root.join("a"), root.join("c"));
    refused("none there", renamed, &[errno::ENOENT])
}

fn rename_over_a_file_replaces_it(root: &Path) -> Outcome {
    fs::write(root.join("a"), "new")?;
    fs::write(root.join("b"), "old")?;
    let mut old = File::open(root.join("b"))?;
    fs::rename(root.join("a"), root.join("b"))?;
    same("names", names(root)?, BTreeSet::from(["b".into()]))?;
    same("content", fs::read(root.join("b"))?.as_slice(), b"new")?;
    let mut content = String::new();
    old.read_to_string(&mut content)?;
    same("the open old one", content.as_str(), "old")
}

fn rename_onto_itself_does_nothing(root: &Path) -> Outcome {
    fs::write(root.join("a"), "content")?;
    fs::rename(root.join("a"), root.join("a"))?;
    same("content", fs::read(root.join("a"))?.as_slice(), b"content")
}

fn rename_over_a_directory(root: &Path) -> Outcome {
    fs::write(root.join("f"), "")?;
    fs::create_dir(root.join("empty"))?;
    fs::create_dir_all(root.join("full/e"))?;
    fs::create_dir(root.join("d"))?;
    let rename = |from: &str, to: &str| fs::rename(root.join(from), root.join(to));
    refused("file over directory", rename("f", "empty"), &[errno::EISDIR])?;
    refused("directory over file", rename("d", "f"), &[errno::ENOTDIR])?;
    let numbers = [errno::ENOTEMPTY, errno::EEXIST];
    refused("directory over full one", rename("d", "full"), &numbers)?;
    rename("full", "empty")?;
    same("content moved", names(&root.join("empty"))?.len(), 1)
}

fn rename_of_a_directory_takes_its_content_along(root: &Path) -> Outcome {
    fs::create_dir_all(root.join("a/b"))?;
    fs::write(root.join("a/b/f"), "content")?;
    let mut open = File::open(root.join("a/b/f"))?;
    fs::create_dir(root.join("c"))?;
    fs::rename(root.join("a"), root.join("c/d"))?;
    same("content", fs::read(root.join("c/d/b/f"))?.as_slice(), b"content")?;
    same("old path", root.join("a/b/f").exists(), false)?;
    let mut content = String::new();
    open.read_to_string(&mut content)?;
    same("the open file", content.as_str(), "content")
}

fn rename_of_a_directory_into_itself_is_refused(root: &Path) -> Outcome {
    fs::create_dir_all(root.join("a/b"))?;
    let renamed = fs::rename(root.join("a"), root.join("a/b/c"));
    refused("rename", renamed, &[errno::EINVAL])?;
    same("still there", root.join("a/b").exists(), true)
}

fn rename_of_an_open_file_keeps_the_handle(root: &Path) -> Outcome {
    let mut file = read_write(&root.join("a"))?;
    file.write_all(b"before ")?;
    fs::rename(root.join("a"), root.join("b"))?;
    file.write_all(b"after")?;
    file.sync_all()?;
    same("content", fs::read_to_string(root.join("b"))?.as_str(), "before after")?;
    same("old name", root.join("a").exists(), false)
}

fn removal_of_an_open_file_keeps_the_handle(root: &Path) -> Outcome {
    let path = root.join("a");
    let mut file = read_write(&path)?;
    file.write_all(b"before ")?;
    fs::remove_file(&path)?;
    same("exists", path.exists(), false)?;
    file.write_all(b"after")?;
    same("length", file.metadata()?.len(), 12)?;
    file.rewind()?;
    let mut content = String::new();
    file.read_to_string(&mut content)?;
    same("content", content.as_str(), "before after")
}

fn hard_links_share_one_file(root: &Path) -> Outcome {
    fs::write(root.join("a"), "one")?;
    fs::hard_link(root.join("a"), root.join("b"))?;
    let mut file = OpenOptions::new().append(true).open(root.join("b"))?;
    file.write_all(b"two")?;
    drop(file);
    same("shared", fs::read(root.join("a"))?.as_slice(), b"onetwo")?;
    fs::remove_file(root.join("a"))?;
    same("the other", fs::read(root.join("b"))?.as_slice(), b"onetwo")
}

fn hard_link_refuses_an_existing_name(root: &Path) -> Outcome {
    fs::write(root.join("a"), "a")?;
    fs::write(root.join("b"), "b")?;
    let link = |from: &str, to: &str| fs::hard_link(root.join(from), root.join(to));
    refused("name in use", link("a", "b"), &[errno::EEXIST])?;
    refused("none there", link("c", "d"), &[errno::ENOENT])?;
    same("content", fs::read(root.join("b"))?.as_slice(), b"b")
}

fn symlink_reads_back_and_is_followed(root: &Path) -> Outcome {
    fs::create_dir(root.join("d"))?;
    fs::write(root.join("d/f"), "content")?;
    symlink("d", &root.join("dir-link"))?;
    symlink("d/f", &root.join("file-link"))?;
    let target = fs::read_link(root.join("file-link"))?;
    same("target", target.as_path(), Path::new("d/f"))?;
    same("file", fs::read(root.join("file-link"))?.as_slice(), b"content")?;
    same("through", fs::read(root.join("dir-link/f"))?.as_slice(), b"content")?;
    fs::write(root.join("file-link"), "changed")?;
    same("written", fs::read(root.join("d/f"))?.as_slice(), b"changed")?;
    let read = fs::read_link(root.join("d/f"));
    refused("read_link of a file", read, &[errno::EINVAL])?;
    refused("name in use", symlink("x", &root.join("d")), &[errno::EEXIST])
}

fn symlink_with_dots_is_followed(root: &Path) -> Outcome {
    fs::create_dir_all(root.join("a/b"))?;
    fs::write(root.join("f"), "content")?;
    symlink("../.././f", &root.join("a/b/up"))?;
    symlink("a/b", &root.join("down"))?;
    // `..` after a link is the parent of its target, not of the link.
    same("up", fs::read(root.join("a/b/up"))?.as_slice(), b"content")?;
    same("both", fs::read(root.join("down/up"))?.as_slice(), b"content")?;
    same("parent", names(&root.join("down/.."))?, BTreeSet::from(["b".into()]))
}

fn symlink_to_nothing(root: &Path) -> Outcome {
    let link = root.join("link");
    symlink("nothing", &link)?;
    refused("metadata", fs::metadata(&link), &[errno::ENOENT])?;
    refused("open", File::open(&link), &[errno::ENOENT])?;
    same("the link itself", fs::symlink_metadata(&link)?.is_symlink(), true)?;
    fs::write(&link, "made")?;
    same("target", fs::read(root.join("nothing"))?.as_slice(), b"made")
}

fn symlink_loop_is_an_error(root: &Path) -> Outcome {
    symlink("b", &root.join("a"))?;
    symlink("a", &root.join("b"))?;
    refused("open", File::open(root.join("a")), &[errno::ELOOP])?;
    refused("metadata", fs::metadata(root.join("a/x")), &[errno::ELOOP])
}

fn removal_of_a_symlink_keeps_its_target(root: &Path) -> Outcome {
    fs::write(root.join("f"), "")?;
    symlink("f", &root.join("link"))?;
    fs::rename(root.join("link"), root.join("renamed"))?;
    let target = fs::read_link(root.join("renamed"))?;
    same("renamed", target.as_path(), Path::new("f"))?;
    fs::remove_file(root.join("renamed"))?;
    same("names", names(root)?, BTreeSet::from(["f".into()]))
}

fn missing_names_are_not_found(root: &Path) -> Outcome {
    let path = root.join("a");
    let kind = fs::metadata(&path).err().map(|error| error.kind());
    same("kind", kind, Some(io::ErrorKind::NotFound))?;
    refused("metadata", fs::metadata(&path), &[errno::ENOENT])?;
    refused("link metadata", fs::symlink_metadata(&path), &[errno::ENOENT])?;
    refused("read_link", fs::read_link(&path), &[errno::ENOENT])?;
    refused("on the way", File::create(path.join("b")), &[errno::ENOENT])?;
    refused("the empty name", File::open(""), &[errno::ENOENT])
}

fn a_file_is_no_directory_on_the_way(root: &Path) -> Outcome {
    fs::write(root.join("f"), "")?;
    let inside = root.join("f/x");
    refused("metadata", fs::metadata(&inside), &[errno::ENOTDIR])?;
    refused("open", File::open(&inside), &[errno::ENOTDIR])?;
    refused("create", File::create(&inside), &[errno::ENOTDIR])?;
    refused("remove", fs::remove_file(&inside), &[errno::ENOTDIR])?;
    refused("rename", fs::rename(root.join("f"), &inside), &[errno::ENOTDIR])
}

fn names_of_255_bytes_and_not_of_256(root: &Path) -> Outcome {
    let longest = root.join("n".repeat(255));
    fs::write(&longest, "content")?;
    same("content", fs::read(&longest)?.as_slice(), b"content")?;
    same("listed", names(root)?, BTreeSet::from(["n".repeat(255)]))?;
    let too_long = root.join("n".repeat(256));
    refused("create", File::create(&too_long), &[errno::ENAMETOOLONG])?;
    refused("look up", fs::metadata(&too_long), &[errno::ENAMETOOLONG])?;
    refused("mkdir", fs::create_dir(&too_long), &[errno::ENAMETOOLONG])?;
    let renamed = fs::rename(&longest, &too_long);
    refused("rename", renamed, &[errno::ENAMETOOLONG])
}

fn names_with_unusual_characters(root: &Path) -> Outcome {
    let all = [
        "größe",
        "gro\u{308}ße",
        "файл",
        "文件",
        "🦀",
        " ",
        "a b",
        "-rf",
        "...",
        "*?",
        "a\\b",
        "a:b",
        "tab\there",
        "line\nfeed",
        "\u{1}",
        "\"'`$",
        "A",
        "a",
        ".hidden",
        "~",
    ];
    for name in all {
        fs::write(root.join(name), name)?;
    }
    let expected: BTreeSet<String> = all.iter().map(ToString::to_string).collect();
    same("listed", names(root)?, expected)?;
    for name in all {
        same("content", fs::read_to_string(root.join(name))?.as_str(), name)?;
    }
    Ok(())
}

fn dot_and_dot_dot_in_paths(root: &Path) -> Outcome {
    fs::create_dir_all(root.join("a/b"))?;
    fs::write(root.join("a/f"), "content")?;
    for path in ["a/./f", "a/b/../f", "./a//f", "a/b/../../a/b/.././f"] {
        same(path, fs::read(root.join(path))?.as_slice(), b"content")?;
    }
    refused("through nothing", File::open(root.join("x/../a/f")), &[errno::ENOENT])?;
    refused("through a file", File::open(root.join("a/f/../f")), &[errno::ENOTDIR])
}

fn a_hundred_open_files(root: &Path) -> Outcome {
    // Wasmtime's adapter from WASI preview 1 to 0.2 has room for 128 descriptors in all.
    let mut files = Vec::new();
    for number in 0..100_u32 {
        let mut file = read_write(&root.join(number.to_string()))?;
        file.write_all(&number.to_le_bytes())?;
        files.push(file);
    }
    for (number, file) in (0..100_u32).zip(&mut files) {
        file.rewind()?;
        let mut back = [0; 4];
        file.read_exact(&mut back)?;
        same("content", u32::from_le_bytes(back), number)?;
    }
    Ok(())
}

fn reuse_of_a_name_is_another_file(root: &Path) -> Outcome {
    let path = root.join("f");
    for round in 0..20_usize {
        let content = pattern(1000 + round, round as u32);
        fs::write(&path, &content)?;
        same("content", fs::read(&path)? == content, true)?;
        fs::remove_file(&path)?;
        // The same name as a directory: nothing remembered of the file may show.
        fs::create_dir(&path)?;
        same("is a directory", fs::metadata(&path)?.is_dir(), true)?;
        same("entries", fs::read_dir(&path)?.count(), 0)?;
        fs::remove_dir(&path)?;
    }
    Ok(())
}
