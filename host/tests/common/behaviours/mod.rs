//! What every backend does, seen through the server. Each function is one test on an empty export.

pub mod attributes;
pub mod directories;
pub mod files;
pub mod renames;
pub mod walks;

/// Makes a `#[test]` of each behaviour, of an [`Export`] that the expression makes anew for each.
#[macro_export]
macro_rules! test_behaviours {
    ($export:expr) => {
        $crate::test_behaviours! { $export;
            walks:
                root_is_a_directory walks_go_step_by_step walks_without_names_clone walks_stay_inside_the_export
                walks_of_open_fids names_are_checked longest_names;
            files:
                files_keep_what_is_written reads_end_with_the_file large_and_sparse_files largest_offsets
                appending_goes_to_the_end opening_truncates creating_opens creating_exclusively
                opened_files_allow_what_they_were_opened_for unlinked_files_live_while_open syncing;
            directories:
                directories_cannot_be_written directories_are_listed_in_pieces listing_goes_on_while_entries_change
                large_directories_are_listed_whole directories_are_made_and_removed removed_directories_take_nothing
                unlinked_directories_live_while_open;
            renames:
                links_share_a_file renames_replace_files renames_of_directories renames_into_own_subtree
                renames_of_links_to_one_file fids_follow_renamed_files rename_and_remove_by_fid remove_forgets_the_fid
                rename_by_fid_finds_the_file fids_follow_moved_directories;
            attributes:
                attributes_are_set times_are_set writing_changes_times_and_version set_group_id_directories
                special_files symlinks_keep_their_target symlinks_and_special_files_cannot_be_opened figures;
        }
    };
    ($export:expr; $($subject:ident: $($behaviour:ident)*;)*) => {$($(
        #[test]
        fn $behaviour() {
            $crate::common::behaviours::$subject::$behaviour(&$export);
        }
    )*)*};
}
