//! What is asked of the gateway: only what is used, and of what is privileged only what the application may.

use crate::config::Config;

const GUILDS: u64 = 1;
const GUILD_MEMBERS: u64 = 1 << 1;
const GUILD_MODERATION: u64 = 1 << 2;
const GUILD_PRESENCES: u64 = 1 << 8;
const GUILD_MESSAGES: u64 = 1 << 9;
const GUILD_MESSAGE_REACTIONS: u64 = 1 << 10;
const GUILD_MESSAGE_TYPING: u64 = 1 << 11;
const DIRECT_MESSAGES: u64 = 1 << 12;
const DIRECT_MESSAGE_REACTIONS: u64 = 1 << 13;
const DIRECT_MESSAGE_TYPING: u64 = 1 << 14;
const MESSAGE_CONTENT: u64 = 1 << 15;
const GUILD_MESSAGE_POLLS: u64 = 1 << 24;
const DIRECT_MESSAGE_POLLS: u64 = 1 << 25;

/// What an application may ask for, in its flags: of few guilds without, of many after a review.
const FLAG_PRESENCES: u64 = 1 << 12 | 1 << 13;
const FLAG_MEMBERS: u64 = 1 << 14 | 1 << 15;
const FLAG_CONTENT: u64 = 1 << 18 | 1 << 19;

/// What is asked for; or the sentence that names what the application may not, and the switch to flip. Where nothing says
/// what it may, what is wanted is asked for, and the gateway closes when it may not.
pub fn choose(config: &Config, flags: Option<u64>) -> Result<u64, String> {
    let choice = &config.intents;
    let may = |flag: u64| flags.is_some_and(|flags| flags & flag != 0);
    let mut missing = Vec::new();
    let mut want = |wanted: bool, flag: u64, switch: &'static str, field: &'static str| {
        if wanted && flags.is_some() && !may(flag) {
            missing.push((switch, field));
        }
        wanted
    };
    let content = want(choice.message_content, FLAG_CONTENT, "Message Content Intent", "intents.messageContent");
    let members = want(choice.members == Some(true), FLAG_MEMBERS, "Server Members Intent", "intents.members")
        || choice.members.is_none() && may(FLAG_MEMBERS);
    let presences = want(choice.presences, FLAG_PRESENCES, "Presence Intent", "intents.presences");
    if !missing.is_empty() {
        return Err(explain(&missing));
    }
    let mut intents = GUILDS
        | GUILD_MODERATION
        | GUILD_MESSAGES
        | GUILD_MESSAGE_REACTIONS
        | DIRECT_MESSAGES
        | DIRECT_MESSAGE_REACTIONS
        | GUILD_MESSAGE_POLLS
        | DIRECT_MESSAGE_POLLS;
    let optional = [
        (choice.typing, GUILD_MESSAGE_TYPING | DIRECT_MESSAGE_TYPING),
        (content, MESSAGE_CONTENT),
        (members, GUILD_MEMBERS),
        (presences, GUILD_PRESENCES),
    ];
    for (wanted, bits) in optional {
        if wanted {
            intents |= bits;
        }
    }
    Ok(intents)
}

/// The sentence for a gateway that refuses what was asked for, although the application seemed to be allowed to.
pub fn refused(intents: u64) -> String {
    let privileged = [
        (MESSAGE_CONTENT, "Message Content Intent", "intents.messageContent"),
        (GUILD_MEMBERS, "Server Members Intent", "intents.members"),
        (GUILD_PRESENCES, "Presence Intent", "intents.presences"),
    ];
    let asked = privileged.iter().filter(|(bit, ..)| intents & bit != 0);
    explain(&asked.map(|(_, switch, field)| (*switch, *field)).collect::<Vec<_>>())
}

fn explain(missing: &[(&str, &str)]) -> String {
    let switches: Vec<String> = missing.iter().map(|(switch, _)| format!("\"{switch}\"")).collect();
    let fields: Vec<&str> = missing.iter().map(|(_, field)| *field).collect();
    format!(
        "the application may not ask Discord for what this instance wants: switch {} on in the Developer Portal (your \
         application, Bot, Privileged Gateway Intents), or set {} to false",
        switches.join(" and "),
        fields.join(" and ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(intents: serde_json::Value) -> Config {
        serde_json::from_value(json!({"intents": intents})).expect("it is a configuration")
    }

    #[test]
    fn what_is_not_used_is_not_asked_for() {
        let least =
            choose(&config(json!({"messageContent": false, "typing": false})), Some(0)).expect("nothing is privileged");
        assert_eq!(least & (MESSAGE_CONTENT | GUILD_MEMBERS | GUILD_PRESENCES | GUILD_MESSAGE_TYPING), 0);
        let usual = choose(&config(json!({})), Some(FLAG_CONTENT | FLAG_MEMBERS)).expect("both are allowed");
        assert_eq!(usual & (MESSAGE_CONTENT | GUILD_MEMBERS | GUILD_PRESENCES), MESSAGE_CONTENT | GUILD_MEMBERS);
        let few = choose(&config(json!({})), Some(1 << 19)).expect("members are asked for where that may be");
        assert_eq!(few & (MESSAGE_CONTENT | GUILD_MEMBERS), MESSAGE_CONTENT);
        let unknown = choose(&config(json!({"presences": true})), None).expect("the gateway says whether it may");
        assert_eq!(
            unknown & (MESSAGE_CONTENT | GUILD_MEMBERS | GUILD_PRESENCES),
            MESSAGE_CONTENT | GUILD_PRESENCES,
            "what nobody asked for is not tried"
        );
    }

    #[test]
    fn what_is_missing_is_named_with_its_switch() {
        let words = choose(&config(json!({"members": true})), Some(0)).expect_err("it may not");
        assert!(words.contains("\"Message Content Intent\" and \"Server Members Intent\""), "{words}");
        assert!(words.contains("intents.messageContent and intents.members"), "{words}");
        assert!(refused(MESSAGE_CONTENT).contains("\"Message Content Intent\" on"));
    }
}
