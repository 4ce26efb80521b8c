//! The renderers on whole results: believable, hurt, degenerate and hostile ones.

mod made_up;

/// The policy's fold of a journal in which nothing happened.
fn policy_report<T: serde::de::DeserializeOwned>() -> T {
    serde_json::from_str("{}").expect("an empty report")
}
