//! The behaviours of a backend, of one that is a server elsewhere: a relay; and what only a relay has.

mod common;

use std::{any::Any, sync::Arc};

use common::{Export, serving::Serving};
use ninering::{
    backend::{Backend, DirBackend, DirOptions, MemBackend},
    mount::{MountOptions, Relay},
    server::{Server, ServerOptions},
};
use tokio::runtime::Runtime;

/// A relay of what a server of `backend` serves, and what must live as long.
fn relay(backend: impl Backend) -> (Relay, impl Any) {
    let serving = Serving::on_unix_socket(Server::new(Arc::new(backend), ServerOptions::default()));
    let runtime = Runtime::new().expect("a runtime");
    let relay = runtime.block_on(Relay::connect(serving.address.clone(), MountOptions::default(), None));
    (relay.expect("a relay"), (runtime, serving))
}

/// All behaviours but those with special files, which a relay does not make.
macro_rules! test_relayed_behaviours {
    ($export:expr) => {
        test_behaviours! { $export;
            root_is_a_directory
            walks_go_step_by_step
            walks_without_names_clone
            walks_stay_inside_the_export
            walks_of_open_fids
            files_keep_what_is_written
            reads_end_with_the_file
            large_and_sparse_files
            appending_goes_to_the_end
            opening_truncates
            creating_opens
            creating_exclusively
            opened_files_allow_what_they_were_opened_for
            directories_cannot_be_written
            directories_are_listed_in_pieces
            listing_goes_on_while_entries_change
            directories_are_made_and_removed
            symlinks_keep_their_target
            links_share_a_file
            renames_replace_files
            renames_of_directories
            renames_into_own_subtree
            renames_of_links_to_one_file
            fids_follow_renamed_files
            rename_and_remove_by_fid
            remove_forgets_the_fid
            rename_by_fid_finds_the_file
            fids_follow_moved_directories
            unlinked_directories_live_while_open
            largest_offsets
            unlinked_files_live_while_open
            attributes_are_set
            times_are_set
            writing_changes_times_and_version
            set_group_id_directories
            names_are_checked
            longest_names
            figures
            syncing
        }
    };
}

mod of_a_directory {
    use super::*;

    fn export() -> Export {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let backend = DirBackend::new(directory.path(), DirOptions::default()).expect("a directory");
        let (relay, guard) = relay(backend);
        Export::called(relay, (guard, directory))
    }

    test_relayed_behaviours!(export());
}

/// Served on a socket: every request is put off, to threads that wait.
mod of_memory_on_a_socket {
    use super::*;

    fn export() -> Export {
        let (relay, guard) = relay(MemBackend::default());
        Export::on_unix_socket(relay, guard)
    }

    test_relayed_behaviours!(export());
}
