//! Names of records: `session-1.0.json`, `sender-key-….json`, `auth:<instance>:keys:pre-key:7`.
//!
//! Baileys' folder names a file `fixFileName("<category>-<id>") + ".json"`, where `fixFileName` makes `/` to `__` and `:` to
//! `-` and nothing else. Redis, MongoDB and Evolution's provider keep the name as it is; Omni v2 puts colons in between. All
//! spellings are understood. The categories are those of Baileys 6.1 to 7.0.

/// What a record is. The order is that of taking over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Creds,
    LidMapping,
    PreKey,
    IdentityKey,
    Session,
    SenderKey,
    SenderKeyMemory,
    AppStateKey,
    AppStateVersion,
    TcToken,
    DeviceList,
}

/// Longest first: `sender-key-memory-x` is not the sender key `memory-x`.
const CATEGORIES: [(&str, Kind); 10] = [
    ("app-state-sync-version", Kind::AppStateVersion),
    ("app-state-sync-key", Kind::AppStateKey),
    ("sender-key-memory", Kind::SenderKeyMemory),
    ("identity-key", Kind::IdentityKey),
    ("device-list", Kind::DeviceList),
    ("lid-mapping", Kind::LidMapping),
    ("sender-key", Kind::SenderKey),
    ("pre-key", Kind::PreKey),
    ("session", Kind::Session),
    ("tctoken", Kind::TcToken),
];

/// A name, taken apart. Credentials have no id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name<'a> {
    pub kind: Kind,
    pub id: &'a str,
}

/// Takes a name apart; `None` for one of another kind. Folders, hash names and other prefixes before it are passed over.
pub(super) fn parse(name: &str) -> Option<Name<'_>> {
    let name = name.trim().strip_suffix(".json").unwrap_or(name.trim());
    let starts = name.char_indices().rev().filter(|(_, c)| matches!(c, '/' | ':' | '\\')).map(|(at, _)| at + 1);
    starts.chain([0]).find_map(|at| plain(&name[at..]))
}

fn plain(name: &str) -> Option<Name<'_>> {
    if name == "creds" {
        return Some(Name { kind: Kind::Creds, id: "" });
    }
    CATEGORIES.into_iter().find_map(|(category, kind)| {
        let id = name.strip_prefix(category)?.strip_prefix(['-', ':'])?;
        (!id.is_empty()).then_some(Name { kind, id })
    })
}

/// The instance of Omni v2 that a name belongs to.
pub(super) fn instance(name: &str) -> Option<&str> {
    let rest = name.trim().strip_prefix("plugin:whatsapp-baileys:").unwrap_or(name.trim()).strip_prefix("auth:")?;
    rest.split_once(':').map(|(instance, _)| instance)
}

/// The three parts of a sender key's id: the group, the user as in a Signal address, the device.
pub(super) fn sender_key(id: &str) -> Option<(&str, &str, &str)> {
    let between = if id.contains("::") { "::" } else { "--" };
    let (rest, device) = id.rsplit_once(between)?;
    let (group, user) = rest.rsplit_once(between)?;
    Some((group, user, device))
}

/// The name of a file for a record.
pub(super) fn file(category: &str, id: &str) -> String {
    format!("{category}-{id}.json").replace('/', "__").replace(':', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(name: &str, kind: Kind, id: &str) {
        assert_eq!(parse(name), Some(Name { kind, id }), "{name}");
    }

    #[test]
    fn the_longest_category_wins() {
        is("sender-key-memory-1@g.us.json", Kind::SenderKeyMemory, "1@g.us");
        is("sender-key-1@g.us--5511--0.json", Kind::SenderKey, "1@g.us--5511--0");
        is("app-state-sync-version-regular_low.json", Kind::AppStateVersion, "regular_low");
        is("app-state-sync-key-AAAAAPv__.json", Kind::AppStateKey, "AAAAAPv__");
    }

    #[test]
    fn folders_and_prefixes_are_passed_over() {
        is("creds.json", Kind::Creds, "");
        is("instances/session-1/creds.json", Kind::Creds, "");
        is("instances/0b/session-5511.1.json", Kind::Session, "5511.1");
        is("app-state-sync-key-AAAAAPv/", Kind::AppStateKey, "AAAAAPv/");
        is("plugin:whatsapp-baileys:auth:0b:creds", Kind::Creds, "");
        is("auth:0b:keys:session:5511_1.0", Kind::Session, "5511_1.0");
        is("auth:0b:keys:sender-key:1-2@g.us::5511::0", Kind::SenderKey, "1-2@g.us::5511::0");
        is("evolution-cache:instance:0b:pre-key-7", Kind::PreKey, "7");
        assert_eq!(instance("plugin:whatsapp-baileys:auth:0b:creds"), Some("0b"));
        assert_eq!(instance("creds.json"), None);
    }

    #[test]
    fn other_names_are_not_understood() {
        for name in ["", "session-", "session", "readme.md", "credsx", "signed-pre-key-1", "-", ":", "/"] {
            assert_eq!(parse(name), None, "{name}");
        }
    }

    #[test]
    fn a_sender_key_is_split_from_behind() {
        let parts = Some(("5511-160@g.us", "5511", "3"));
        assert_eq!(sender_key("5511-160@g.us--5511--3"), parts);
        assert_eq!(sender_key("5511-160@g.us::5511::3"), parts);
        assert_eq!(sender_key("5511-160@g.us"), None);
    }

    #[test]
    fn a_file_is_named_as_baileys_names_it() {
        assert_eq!(file("app-state-sync-key", "AAAA+Pv/"), "app-state-sync-key-AAAA+Pv__.json");
        assert_eq!(file("sender-key", "1@g.us::2::0"), "sender-key-1@g.us--2--0.json");
    }
}
