//! Who and where, by one name each.
//!
//! WhatsApp knows an account by two addresses: its phone number (`5511999990001@s.whatsapp.net`) and its LID
//! (`100000000000001@lid`), and switches between them as it likes. Here an account is its phone number as soon as that is known,
//! and its LID until then; when it becomes known, the host is told that both are one. Groups, newsletters and the status
//! list have one address.

use omni_channel_sdk::prelude::*;
use wacore_binary::{Jid, JidExt, Server};

/// An account, under the address that it goes by here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// `…@s.whatsapp.net`, or `…@lid` while no phone number is known.
    pub id: String,
    /// Phone number in E.164 with `+`.
    pub phone: Option<String>,
    /// The LID, where it is known.
    pub lid: Option<String>,
}

impl Party {
    /// An account of which one or both addresses are known.
    pub fn new(jid: &Jid, other: Option<&Jid>) -> Self {
        let (jid, other) = (plain(jid), other.map(plain));
        let both = || std::iter::once(&jid).chain(other.as_ref());
        let phone = both().find(|jid| jid.is_pn()).map(|jid| jid.user.to_string());
        let lid = both().find(|jid| jid.is_lid()).map(ToString::to_string);
        match phone {
            Some(phone) => Self { id: format!("{phone}@s.whatsapp.net"), phone: Some(format!("+{phone}")), lid },
            None => Self { id: jid.to_string(), phone: None, lid },
        }
    }

    /// The account as the SDK names it.
    pub fn user(&self) -> User {
        let mut user = User::new(self.id.as_str());
        user.phone.clone_from(&self.phone);
        user
    }
}

/// An address without the device, and with the hosted servers under their plain names.
pub fn plain(jid: &Jid) -> Jid {
    let mut plain = jid.to_non_ad();
    plain.server = match plain.server {
        Server::Hosted | Server::Legacy => Server::Pn,
        Server::HostedLid => Server::Lid,
        other => other,
    };
    plain
}

/// Whether an address is an account's, not a group's or a list's.
pub fn is_account(jid: &Jid) -> bool {
    let server = plain(jid).server;
    matches!(server, Server::Pn | Server::Lid)
}

/// What sort of chat an address is.
pub fn kind(jid: &Jid) -> ChatKind {
    if jid.is_group() {
        ChatKind::Group
    } else if jid.is_newsletter() || jid.is_status_broadcast() || jid.is_broadcast_list() {
        ChatKind::Channel
    } else {
        ChatKind::Direct
    }
}

/// An address as somebody wrote it: a JID, or a phone number in any common form.
pub fn parse(address: &str) -> Result<Jid, SendError> {
    let address = address.trim();
    let unusable = |why: &str| {
        let mut error = SendError::invalid(format!(
            "{address:?} is no address of WhatsApp's ({why}): a phone number with country code, or an id like 120363000000000001@g.us"
        ));
        error.code = ErrorCode::ChatNotFound;
        error
    };
    if address.contains('@') {
        let jid: Jid = address.parse().map_err(|_| unusable("it cannot be read"))?;
        if jid.user.is_empty() {
            return Err(unusable("nothing stands before the @"));
        }
        return Ok(plain(&jid));
    }
    let digits: String = address.chars().filter(|c| !matches!(c, '+' | ' ' | '-' | '(' | ')' | '.')).collect();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(unusable("it has other characters than digits"));
    }
    // E.164 has at most 15 digits; ids of old groups have a dash and come with their server.
    if !(7..=15).contains(&digits.len()) {
        return Err(unusable("a phone number has 7 to 15 digits"));
    }
    Ok(Jid::pn(digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jid(text: &str) -> Jid {
        text.parse().unwrap()
    }

    #[test]
    fn whichever_address_comes_first_an_account_is_its_phone_number() {
        let (phone, lid) = (jid("5511999990001:3@s.whatsapp.net"), jid("100000000000001:3@lid"));
        let by_phone = Party::new(&phone, Some(&lid));
        assert_eq!(by_phone, Party::new(&lid, Some(&phone)));
        assert_eq!(by_phone.id, "5511999990001@s.whatsapp.net");
        assert_eq!(by_phone.phone.as_deref(), Some("+5511999990001"));
        assert_eq!(by_phone.lid.as_deref(), Some("100000000000001@lid"));
        let unknown = Party::new(&lid, None);
        assert_eq!((unknown.id.as_str(), unknown.phone), ("100000000000001@lid", None));
    }

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for address in [
            "5511999990001",
            "+55 11 99999-0001",
            "(55) 11 99999.0001",
            "5511999990001@s.whatsapp.net",
            "5511999990001:7@s.whatsapp.net",
            "5511999990001@c.us",
        ] {
            assert_eq!(parse(address).unwrap().to_string(), "5511999990001@s.whatsapp.net", "{address}");
        }
        assert_eq!(parse("120363000000000001@g.us").unwrap().to_string(), "120363000000000001@g.us");
        assert_eq!(parse("100000000000001@lid").unwrap().to_string(), "100000000000001@lid");
        for address in ["", "ann", "123", "@g.us", "5511999990001@nowhere.example", "12345678901234567890"] {
            let error = parse(address).expect_err(address);
            assert_eq!(error.code, ErrorCode::ChatNotFound, "{address}");
        }
    }
}
