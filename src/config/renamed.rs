//! Renamed keys: the error for an old key names the new one.
//!
//! To rename a key, change the code that reads it and add a row to [`RENAMED_KEYS`].

/// A renamed key.
struct RenamedKey {
    /// The path of its section, without positions in lists: `authenticate.issuers.claims`. Empty
    /// for keys at the top of a file.
    section: &'static str,
    old: &'static str,
    new: &'static str,
}

/// Every renamed key, by section.
const RENAMED_KEYS: [RenamedKey; 5] = [
    renamed("", "stamp", "user_context"),
    renamed("listen.tls", "oldest_version", "min_version"),
    renamed("teams", "reveal", "list_teams"),
    renamed("timeouts", "driver_silence", "driver_keepalive"),
    renamed("timeouts", "driver_ack", "driver_keepalive_ack"),
];

const fn renamed(section: &'static str, old: &'static str, new: &'static str) -> RenamedKey {
    RenamedKey { section, old, new }
}

/// The new name of a key, if it was renamed.
pub(super) fn new_name(section: &str, old: &str) -> Option<&'static str> {
    let found = RENAMED_KEYS.iter().find(|key| key.section == section && key.old == old);
    found.map(|key| key.new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_renamed_in_its_own_section_only() {
        assert_eq!(new_name("teams", "reveal"), Some("list_teams"));
        assert_eq!(new_name("", "reveal"), None);
        assert_eq!(new_name("teams", "list_teams"), None);
    }
}
