//! Any balancer that commands can speak to.

use async_trait::async_trait;

use super::{Balancer, Member};
use crate::deployment::{BalancerHooks, Place};
use crate::figures::Live;
use crate::hook::{self, Hook};
use crate::shell::join;
use crate::trouble::Trouble;

/// The hooks.
#[derive(Debug)]
pub struct Hooks {
    spec: BalancerHooks,
}

impl Hooks {
    /// As the deployment has them.
    pub fn new(spec: BalancerHooks) -> Hooks {
        Hooks { spec }
    }

    async fn run(
        &self,
        what: &'static str,
        command: &[String],
        place: &Place,
        more: &[(&str, String)],
    ) -> Result<String, Trouble> {
        let within = hook::duration(self.spec.within);
        Hook { what, command, within }.run(Some(place), None, more).await
    }
}

#[async_trait]
impl Balancer for Hooks {
    fn name(&self) -> String {
        "the balancer's commands".to_owned()
    }

    async fn member(&self, place: &Place) -> Result<Member, Trouble> {
        let said = self.run("balancer.state", &self.spec.state, place, &[]).await?;
        let in_rotation = match said.as_str() {
            "in" => true,
            "out" => false,
            other => {
                return Err(Trouble::lasting(format!(
                    "balancer.state printed `{other}`; expected `in` or `out`"
                )));
            }
        };
        let in_flight = match self.spec.in_flight.is_empty() {
            true => None,
            false => Some(hook::count(
                "balancer.in_flight",
                &self.run("balancer.in_flight", &self.spec.in_flight, place, &[]).await?,
            )?),
        };
        Ok(Member { in_rotation, in_flight })
    }

    async fn take_out(&self, place: &Place) -> Result<(), Trouble> {
        self.run("balancer.take_out", &self.spec.take_out, place, &[]).await.map(|_| ())
    }

    async fn admit(&self, place: &Place, weight: Option<u8>, _version: Option<&str>) -> Result<(), Trouble> {
        let weight = [("weight", weight.unwrap_or(100).to_string())];
        self.run("balancer.admit", &self.spec.admit, place, &weight).await.map(|_| ())
    }

    async fn cut(&self, place: &Place) -> Result<u32, Trouble> {
        if self.spec.cut.is_empty() {
            return Err(Trouble::lasting("balancer.cut is not there; the stop ends what is in flight"));
        }
        hook::count("balancer.cut", &self.run("balancer.cut", &self.spec.cut, place, &[]).await?)
    }

    async fn live(&self) -> Option<Live> {
        if self.spec.load.is_empty() {
            return None;
        }
        let within = hook::duration(self.spec.within);
        let said = Hook { what: "balancer.load", command: &self.spec.load, within }
            .run(None, None, &[])
            .await
            .ok()?;
        let rate = said.parse::<f64>().ok().filter(|rate| rate.is_finite() && *rate >= 0.0)?;
        Some(Live { rate: Some(rate), ..Live::default() })
    }

    async fn prepare(&self, places: &[Place]) -> Result<Vec<String>, Trouble> {
        let mut lines = Vec::new();
        for place in places {
            self.member(place).await?;
            for command in [&self.spec.take_out, &self.spec.admit] {
                let filled =
                    hook::filled("balancer", command, Some(place), None, &[("weight", "100".to_owned())])?;
                lines.push(join(&filled));
            }
        }
        Ok(lines)
    }

    fn recovery(&self, places: &[Place]) -> Vec<String> {
        let weight = [("weight", "100".to_owned())];
        let filled =
            |place: &Place| hook::filled("balancer.admit", &self.spec.admit, Some(place), None, &weight).ok();
        places.iter().filter_map(filled).map(|command| join(&command)).collect()
    }
}
