//! Every route, who may use it, and how long and how large it may be: the one place that says so.
//!
//! The guard refuses whatever is not in this table, so a route that is forgotten here cannot be reached.

use Class::{Feed, File, Plain, Takeover, Upload};
use axum::http::Method;

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everybody.
    Open,
    /// Everybody, when the configuration says so; else who has the scope `metrics:read`.
    Metrics,
    /// Whoever has a key.
    Key,
    /// Whoever has a key with this scope.
    Scope(&'static str),
}

/// What a route does to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// A question and an answer, within the request time limit.
    Plain,
    /// An answer that may go on for long; the key may also be in the query.
    Feed,
    /// A file to be read; the key may also be in the query.
    File,
    /// A body that may take long.
    Upload,
    /// The same, and the answer takes long as well.
    Takeover,
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    pub(crate) method: &'static str,
    /// As axum matches it, below [`BASE`](super::BASE).
    pub(crate) path: &'static str,
    pub(crate) access: Access,
    pub(crate) class: Class,
}

const fn scope(method: &'static str, path: &'static str, scope: &'static str) -> Route {
    Route { method, path, access: Access::Scope(scope), class: Plain }
}

const fn open(method: &'static str, path: &'static str) -> Route {
    Route { method, path, access: Access::Open, class: Plain }
}

/// Taking over and giving away what an account logs in with.
pub(crate) const AUTH: &str = "instances:admin";

/// The table.
pub(crate) const ROUTES: &[Route] = &[
    open("GET", "/health"),
    open("GET", "/ready"),
    Route { method: "GET", path: "/metrics", access: Access::Metrics, class: Plain },
    open("GET", "/openapi.json"),
    open("GET", "/docs"),
    open("GET", "/docs/"),
    open("GET", "/docs/{*file}"),
    open("*", "/channels/{instanceId}/webhook"),
    open("*", "/channels/{instanceId}/webhook/{*rest}"),
    Route { method: "GET", path: "/info", access: Access::Key, class: Plain },
    Route { method: "POST", path: "/auth/validate", access: Access::Key, class: Plain },
    scope("GET", "/instances", "instances:read"),
    scope("POST", "/instances", "instances:write"),
    scope("GET", "/instances/supported-channels", "instances:read"),
    scope("GET", "/instances/{id}", "instances:read"),
    scope("PATCH", "/instances/{id}", "instances:write"),
    scope("DELETE", "/instances/{id}", "instances:write"),
    scope("GET", "/instances/{id}/status", "instances:read"),
    scope("GET", "/instances/{id}/qr", "instances:write"),
    scope("POST", "/instances/{id}/pair", "instances:write"),
    scope("POST", "/instances/{id}/login", "instances:write"),
    scope("POST", "/instances/{id}/connect", "instances:write"),
    scope("POST", "/instances/{id}/disconnect", "instances:write"),
    scope("POST", "/instances/{id}/restart", "instances:write"),
    scope("POST", "/instances/{id}/logout", "instances:write"),
    scope("POST", "/instances/{id}/restore-state", "instances:write"),
    Route { method: "POST", path: "/instances/{id}/auth-import", access: Access::Scope(AUTH), class: Takeover },
    scope("DELETE", "/instances/{id}/auth-import", AUTH),
    Route { method: "POST", path: "/instances/{id}/auth-export", access: Access::Scope(AUTH), class: Takeover },
    scope("GET", "/auth-imports", AUTH),
    scope("DELETE", "/auth-imports/{id}/snapshot", AUTH),
    scope("GET", "/instances/{id}/sync", "instances:read"),
    scope("POST", "/instances/{id}/sync", "instances:write"),
    scope("GET", "/instances/{id}/sync/{jobId}", "instances:read"),
    scope("DELETE", "/instances/{id}/sync/{jobId}", "instances:write"),
    scope("POST", "/instances/{id}/resync", "instances:write"),
    scope("GET", "/instances/{id}/users/{userId}/profile", "instances:read"),
    scope("GET", "/instances/{id}/contacts", "instances:read"),
    scope("GET", "/instances/{id}/groups", "instances:read"),
    scope("PUT", "/instances/{id}/profile/name", "instances:write"),
    scope("PUT", "/instances/{id}/profile/status", "instances:write"),
    scope("PUT", "/instances/{id}/profile/picture", "instances:write"),
    scope("DELETE", "/instances/{id}/profile/picture", "instances:write"),
    scope("GET", "/instances/{id}/privacy", "instances:read"),
    scope("PUT", "/instances/{id}/privacy", "instances:write"),
    scope("POST", "/instances/{id}/check-number", "instances:read"),
    scope("POST", "/instances/{id}/block", "instances:write"),
    scope("DELETE", "/instances/{id}/block", "instances:write"),
    scope("GET", "/instances/{id}/blocklist", "instances:read"),
    scope("GET", "/messages", "messages:read"),
    scope("GET", "/messages/by-external", "messages:read"),
    scope("GET", "/messages/{id}", "messages:read"),
    scope("DELETE", "/messages/{id}", "messages:write"),
    scope("POST", "/messages/{id}/edit", "messages:write"),
    scope("POST", "/messages/{id}/reactions", "messages:write"),
    scope("DELETE", "/messages/{id}/reactions", "messages:write"),
    scope("POST", "/messages/{id}/read", "messages:write"),
    scope("POST", "/messages/read", "messages:write"),
    scope("POST", "/messages/edit-channel", "messages:write"),
    scope("POST", "/messages/delete-channel", "messages:write"),
    scope("POST", "/messages/send", "messages:write"),
    scope("POST", "/messages/send/media", "messages:write"),
    scope("POST", "/messages/send/album", "messages:write"),
    scope("POST", "/messages/send/reaction", "messages:write"),
    scope("POST", "/messages/send/sticker", "messages:write"),
    scope("POST", "/messages/send/contact", "messages:write"),
    scope("POST", "/messages/send/location", "messages:write"),
    scope("POST", "/messages/send/poll", "messages:write"),
    scope("POST", "/messages/send/buttons", "messages:write"),
    scope("POST", "/messages/send/presence", "messages:write"),
    // What Omni v2's document and its SDKs call some of them.
    scope("POST", "/messages", "messages:write"),
    scope("POST", "/messages/media", "messages:write"),
    scope("POST", "/messages/sticker", "messages:write"),
    scope("POST", "/messages/contact", "messages:write"),
    scope("POST", "/messages/location", "messages:write"),
    scope("POST", "/messages/reaction", "messages:write"),
    Route { method: "POST", path: "/media", access: Access::Scope("messages:write"), class: Upload },
    Route { method: "GET", path: "/media/{id}", access: Access::Scope("messages:read"), class: File },
    scope("GET", "/chats", "chats:read"),
    scope("GET", "/chats/by-external", "chats:read"),
    scope("GET", "/chats/{id}", "chats:read"),
    scope("PATCH", "/chats/{id}", "chats:write"),
    scope("POST", "/chats/{id}/archive", "chats:write"),
    scope("POST", "/chats/{id}/unarchive", "chats:write"),
    scope("GET", "/chats/{id}/messages", "messages:read"),
    scope("GET", "/chats/{id}/participants", "chats:read"),
    scope("POST", "/chats/{id}/read", "chats:write"),
    scope("GET", "/chats/{id}/capabilities", "chats:read"),
    scope("POST", "/chats/{id}/group", "chats:write"),
    scope("POST", "/chats/{id}/actions", "chats:write"),
    scope("POST", "/instances/{id}/groups", "chats:write"),
    scope("GET", "/persons", "persons:read"),
    scope("GET", "/persons/{id}", "persons:read"),
    scope("GET", "/persons/{id}/timeline", "persons:read"),
    Route { method: "GET", path: "/persons/{id}/export", access: Access::Scope("persons:admin"), class: File },
    scope("GET", "/persons/{id}/erasure", "persons:admin"),
    scope("POST", "/persons/{id}/erase", "persons:admin"),
    scope("POST", "/persons/link", "persons:write"),
    scope("POST", "/persons/unlink", "persons:write"),
    scope("POST", "/persons/merge", "persons:write"),
    scope("GET", "/events", "events:read"),
    Route { method: "GET", path: "/events/stream", access: Access::Scope("events:read"), class: Feed },
    scope("GET", "/events/timeline/{personId}", "events:read"),
    scope("GET", "/events/by-sender/{senderId}", "events:read"),
    scope("GET", "/events/{id}", "events:read"),
    scope("GET", "/dead-letters", "events:read"),
    scope("GET", "/dead-letters/stats", "events:read"),
    scope("GET", "/dead-letters/{id}", "events:read"),
    scope("POST", "/dead-letters/{id}/retry", "events:write"),
    scope("POST", "/dead-letters/{id}/resolve", "events:write"),
    scope("POST", "/dead-letters/{id}/abandon", "events:write"),
    scope("GET", "/event-ops/replay", "events:read"),
    scope("POST", "/event-ops/replay", "events:write"),
    scope("GET", "/event-ops/replay/{id}", "events:read"),
    scope("DELETE", "/event-ops/replay/{id}", "events:write"),
    scope("GET", "/webhooks", "webhooks:read"),
    scope("POST", "/webhooks", "webhooks:write"),
    scope("GET", "/webhooks/{id}", "webhooks:read"),
    scope("PATCH", "/webhooks/{id}", "webhooks:write"),
    scope("DELETE", "/webhooks/{id}", "webhooks:write"),
    scope("POST", "/webhooks/{id}/enable", "webhooks:write"),
    scope("POST", "/webhooks/{id}/disable", "webhooks:write"),
    scope("POST", "/webhooks/{id}/test", "webhooks:write"),
    scope("POST", "/webhooks/{id}/rotate", "webhooks:write"),
    scope("GET", "/webhooks/{id}/deliveries", "webhooks:read"),
    scope("GET", "/webhooks/{id}/deliveries/{deliveryId}", "webhooks:read"),
    scope("GET", "/plugins", "plugins:read"),
    scope("POST", "/plugins/rescan", "plugins:write"),
    scope("GET", "/plugins/{channel}", "plugins:read"),
    scope("GET", "/keys", "keys:read"),
    scope("POST", "/keys", "keys:write"),
    scope("GET", "/keys/{id}", "keys:read"),
    scope("PATCH", "/keys/{id}", "keys:write"),
    scope("DELETE", "/keys/{id}", "keys:write"),
    scope("POST", "/keys/{id}/revoke", "keys:write"),
    scope("GET", "/keys/{id}/audit", "keys:read"),
    scope("GET", "/audit", "audit:read"),
    scope("GET", "/hosts", "system:read"),
    scope("GET", "/system/key", "system:read"),
    scope("POST", "/system/key/rotate", "system:write"),
    scope("GET", "/system/log-level", "system:read"),
    scope("PUT", "/system/log-level", "system:write"),
    scope("GET", "/settings", "settings:read"),
    scope("PATCH", "/settings", "settings:write"),
    scope("GET", "/settings/{key}", "settings:read"),
    scope("PUT", "/settings/{key}", "settings:write"),
    scope("DELETE", "/settings/{key}", "settings:write"),
];

/// What the table says about a request.
#[derive(Debug)]
pub(crate) enum Found {
    /// It is this route.
    Route(&'static Route),
    /// The path takes these methods only.
    OtherMethods(String),
    /// The table has no such path.
    Nothing,
}

/// Looks a request up, by the path that the router matched.
pub(crate) fn find(method: &Method, matched: &str) -> Found {
    let path = matched.strip_prefix(super::BASE).unwrap_or(matched);
    let method = if *method == Method::HEAD { "GET" } else { method.as_str() };
    let mut others = Vec::new();
    for route in ROUTES.iter().filter(|route| route.path == path) {
        if route.method == method || route.method == "*" {
            return Found::Route(route);
        }
        others.push(route.method);
    }
    if others.is_empty() { Found::Nothing } else { Found::OtherMethods(others.join(", ")) }
}

/// Every namespace and action that a scope may name.
pub(crate) fn known_scope(scope: &str) -> bool {
    let named = |route: &Route| match route.access {
        Access::Scope(needed) => covers(scope, needed),
        Access::Metrics => covers(scope, "metrics:read"),
        Access::Open | Access::Key => false,
    };
    scope == "*" || ROUTES.iter().any(named)
}

/// Whether a scope that was granted covers one that is needed (or one that is to be granted).
pub(crate) fn covers(granted: &str, needed: &str) -> bool {
    granted == "*"
        || granted == needed
        || granted.strip_suffix(":*").is_some_and(|namespace| needed.split(':').next() == Some(namespace))
}
