//! Which version answered a session last.
//!
//! Bounded: of two generations of entries the older one is dropped when the younger is half of all, so that sessions that
//! are heard of stay, and those that are not are forgotten after at least half the bound's worth of others.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use hyper::HeaderMap;
use serde_json::value::RawValue;

use crate::config::SessionConfig;

/// A session's name, hashed with a key of this process, so that nobody can make two collide; the name itself is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SessionId(u64);

#[derive(Debug)]
pub(crate) struct Sessions {
    config: SessionConfig,
    key: RandomState,
    generations: Mutex<[HashMap<u64, Arc<str>>; 2]>,
}

impl Sessions {
    pub(crate) fn new(config: SessionConfig) -> Self {
        Self { config, key: RandomState::new(), generations: Mutex::default() }
    }

    /// The session that a request names, by its header or a key of its body.
    pub(crate) fn of(&self, headers: &HeaderMap, body: Option<&[u8]>) -> Option<SessionId> {
        if !self.config.sticky {
            return None;
        }
        if let Some(name) = headers.get(self.config.header.as_str()).filter(|name| !name.is_empty()) {
            return Some(self.hash(name.as_bytes()));
        }
        if self.config.body_keys.is_empty() {
            return None;
        }
        // Values are looked at only where the key is one of ours; a body that is no JSON object names nobody.
        let body: HashMap<&str, &RawValue> = serde_json::from_slice(body?).ok()?;
        let named = self.config.body_keys.iter().find_map(|key| body.get(key.as_str()))?;
        let name: String = serde_json::from_str(named.get()).ok()?;
        (!name.is_empty()).then(|| self.hash(name.as_bytes()))
    }

    fn hash(&self, name: &[u8]) -> SessionId {
        SessionId(self.key.hash_one(name))
    }

    /// The version that answered it last.
    pub(crate) fn version(&self, session: SessionId) -> Option<Arc<str>> {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(version) = generations[0].get(&session.0) {
            return Some(Arc::clone(version));
        }
        let version = generations[1].remove(&session.0)?;
        self.insert(&mut generations, session, Arc::clone(&version));
        Some(version)
    }

    /// Remembers that `version` answers it.
    pub(crate) fn answered(&self, session: SessionId, version: &Arc<str>) {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        self.insert(&mut generations, session, Arc::clone(version));
    }

    fn insert(&self, generations: &mut [HashMap<u64, Arc<str>>; 2], session: SessionId, version: Arc<str>) {
        if generations[0].len() >= (self.config.most / 2).max(1) {
            generations.swap(0, 1);
            generations[0].clear();
        }
        generations[0].insert(session.0, version);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_before_body_and_keys_in_their_order() {
        let sessions = Sessions::new(SessionConfig::default());
        let mut headers = HeaderMap::new();
        let of = |headers: &HeaderMap, body: &str| sessions.of(headers, Some(body.as_bytes()));
        assert_eq!(of(&headers, "{}"), None);
        assert_eq!(of(&headers, "no JSON"), None);
        assert_eq!(of(&headers, "{\"user\": 3}"), None);
        let user = of(&headers, "{\"messages\": [{\"user\": \"no\"}], \"user\": \"u\\u0031\"}");
        assert_eq!(user, Some(sessions.hash(b"u1")));
        assert_eq!(of(&headers, "{\"user\": \"u1\", \"session_id\": \"s\"}"), Some(sessions.hash(b"s")));
        headers.insert("x-session-id", "h".parse().unwrap());
        assert_eq!(of(&headers, "{\"user\": \"u1\"}"), Some(sessions.hash(b"h")));
    }

    #[test]
    fn the_table_is_bounded_and_forgets_who_is_not_heard_of() {
        let sessions = Sessions::new(SessionConfig { most: 10, ..SessionConfig::default() });
        let version: Arc<str> = Arc::from("v1");
        for name in 0..1000_u64 {
            sessions.answered(SessionId(name), &version);
            assert!(sessions.version(SessionId(0)).is_some(), "{name}");
        }
        let held: usize = sessions.generations.lock().unwrap().iter().map(HashMap::len).sum();
        assert!(held <= 10, "{held}");
        assert_eq!(sessions.version(SessionId(500)), None);
    }
}
