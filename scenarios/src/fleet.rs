//! The chassis: which replicas there are and which GPUs each holds.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// The replicas of one chassis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fleet {
    /// How many replicas (named `replica-0`, `replica-1`, ... on consecutive GPUs), or a list of them.
    pub replicas: Replicas,
    /// GPUs that one replica spans. The engine profile must be that of such a group.
    #[serde(default = "one")]
    pub tensor_parallel: u32,
    /// GPUs of the chassis, to be held against what the replicas need. Absent: as many as they need.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpus: Option<u32>,
    /// Places for further replicas, on GPUs of their own that nothing uses (named `spare-0`, ...). Strategy `surge` needs one
    /// or more, `blue-green` as many as there are replicas.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub spares: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref)] // the signature serde wants
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// Where a replica runs, or could.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// How reports call it.
    pub name: String,
    /// GPU indices.
    pub gpus: Vec<u32>,
    /// Nothing runs there at first.
    pub spare: bool,
    /// The replica whose GPUs it shares.
    pub beside: Option<String>,
}

/// One engine process and its GPUs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Replica {
    /// How reports and `rollout.order` call it.
    pub name: String,
    /// GPU indices; as many as `fleet.tensor_parallel`. Absent: the next free ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<u32>,
}

/// A count, or the replicas one by one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Replicas {
    /// So many replicas, alike.
    Count(u32),
    /// Each replica by name.
    Listed(Vec<Replica>),
}

const fn one() -> u32 {
    1
}

impl Fleet {
    /// How many replicas there are.
    #[must_use]
    pub fn replica_count(&self) -> usize {
        match &self.replicas {
            Replicas::Count(count) => *count as usize,
            Replicas::Listed(list) => list.len(),
        }
    }

    /// The replicas, then the spares, then, where each replica has a twin on its GPUs, the twins.
    #[must_use]
    pub fn places(&self, twins: bool) -> Vec<Place> {
        let replicas = self.replica_list();
        let mut free = (0..).filter(|gpu| !replicas.iter().any(|replica| replica.gpus.contains(gpu)));
        let spares = (0..self.spares).map(|index| Place {
            name: format!("spare-{index}"),
            gpus: free.by_ref().take(self.tensor_parallel as usize).collect(),
            spare: true,
            beside: None,
        });
        let twins = replicas.iter().filter(|_| twins).map(|replica| Place {
            name: format!("{}-twin", replica.name),
            gpus: replica.gpus.clone(),
            spare: true,
            beside: Some(replica.name.clone()),
        });
        let own = replicas.iter().cloned();
        own.map(|Replica { name, gpus }| Place { name, gpus, spare: false, beside: None })
            .chain(spares)
            .chain(twins)
            .collect()
    }

    /// Every replica with its name and GPUs, in order; gaps that the file leaves are filled.
    #[must_use]
    pub fn replica_list(&self) -> Vec<Replica> {
        let mut replicas = match &self.replicas {
            Replicas::Count(count) => {
                (0..*count).map(|index| Replica { name: format!("replica-{index}"), gpus: vec![] }).collect()
            }
            Replicas::Listed(list) => list.clone(),
        };
        let taken: Vec<u32> = replicas.iter().flat_map(|replica| replica.gpus.clone()).collect();
        let mut free = (0..).filter(|gpu| !taken.contains(gpu));
        for replica in &mut replicas {
            if replica.gpus.is_empty() {
                replica.gpus = free.by_ref().take(self.tensor_parallel as usize).collect();
            }
        }
        replicas
    }
}

impl<'de> Deserialize<'de> for Replicas {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ReplicasVisitor)
    }
}

struct ReplicasVisitor;

impl<'de> Visitor<'de> for ReplicasVisitor {
    type Value = Replicas;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a number of replicas such as 4, or a list of [[fleet.replicas]] tables")
    }

    fn visit_i64<E: de::Error>(self, count: i64) -> Result<Replicas, E> {
        u32::try_from(count)
            .map(Replicas::Count)
            .map_err(|_| E::invalid_value(de::Unexpected::Signed(count), &self))
    }

    fn visit_u64<E: de::Error>(self, count: u64) -> Result<Replicas, E> {
        u32::try_from(count)
            .map(Replicas::Count)
            .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(count), &self))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Replicas, A::Error> {
        let mut list = Vec::new();
        while let Some(replica) = items.next_element()? {
            list.push(replica);
        }
        Ok(Replicas::Listed(list))
    }
}

impl JsonSchema for Replicas {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Replicas".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let replica = generator.subschema_for::<Replica>();
        json_schema!({
            "description": "How many replicas, or a list of them.",
            "anyOf": [{ "type": "integer", "minimum": 1 }, { "type": "array", "items": replica, "minItems": 1 }]
        })
    }
}
