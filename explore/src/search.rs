//! Breadth first through every reachable state, each once; then, over the calm steps alone, whether every state comes to rest.
//!
//! Breadth first makes a counterexample a shortest one. Only fingerprints are kept of states that were left behind; a path is found again by
//! taking its choices again from the beginning.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hash, Hasher};

use crate::driver::Driver;
use crate::model::{Choice, Setup, State, Violation};

/// A search that goes beyond this is a mistake in its bounds.
pub const STATES_MAX: usize = 20_000_000;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explored {
    /// States, each once.
    pub states: usize,
    /// Steps between them.
    pub steps: usize,
    /// The longest of all shortest ways to a state.
    pub depth: u32,
    /// States in which the rollout has ended or holds for a person.
    pub resting: usize,
    /// How a rollout has ended somewhere, and how many states have it so.
    pub outcomes: BTreeMap<String, usize>,
    /// The shortest way to what must not be.
    pub counterexample: Option<Counterexample>,
}

/// A shortest way to what must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counterexample {
    /// What is wrong.
    pub violation: String,
    /// The steps that lead there.
    pub path: Vec<Choice>,
    /// The same in words, with what the policy said to each.
    pub text: String,
}

struct Node {
    parent: u32,
    choice: Choice,
    depth: u32,
    rests: bool,
}

/// Fingerprints are hashes already.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0 << 8 | u64::from(*byte);
        }
    }

    fn write_u64(&mut self, fingerprint: u64) {
        self.0 = fingerprint;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Explores everything.
pub fn explore(setup: &Setup, driver: &dyn Driver) -> Explored {
    Search::new(setup, driver).run()
}

struct Search<'a> {
    setup: &'a Setup,
    driver: &'a dyn Driver,
    nodes: Vec<Node>,
    seen: HashMap<u64, u32, BuildHasherDefault<AsItIs>>,
    /// From, to.
    calm: Vec<(u32, u32)>,
    found: Explored,
}

const NONE: u32 = u32::MAX;

impl<'a> Search<'a> {
    fn new(setup: &'a Setup, driver: &'a dyn Driver) -> Search<'a> {
        let found = Explored {
            states: 0,
            steps: 0,
            depth: 0,
            resting: 0,
            outcomes: BTreeMap::new(),
            counterexample: None,
        };
        Search { setup, driver, nodes: Vec::new(), seen: HashMap::default(), calm: Vec::new(), found }
    }

    fn run(mut self) -> Explored {
        let mut queue = VecDeque::new();
        match State::first(self.setup, self.driver, &mut |_| {}) {
            Ok(first) => {
                let id = self.node(&first, NONE, Choice::Tick).0;
                queue.push_back((id, first));
            }
            Err(Violation(words)) => return self.fails(words, NONE, None, &[]),
        }
        while let Some((id, state)) = queue.pop_front() {
            for choice in state.choices(self.setup) {
                let next = match state.after(choice, self.driver, &mut |_| {}) {
                    Ok(Some(next)) => next,
                    Ok(None) => continue,
                    Err(Violation(words)) => return self.fails(words, id, Some(choice), &[]),
                };
                self.found.steps += 1;
                let (to, new) = self.node(&next, id, choice);
                if state.is_calm(choice) {
                    self.calm.push((id, to));
                }
                if new {
                    queue.push_back((to, next));
                }
            }
        }
        self.comes_to_rest()
    }

    fn node(&mut self, state: &State, parent: u32, choice: Choice) -> (u32, bool) {
        let fingerprint = state.fingerprint();
        if let Some(id) = self.seen.get(&fingerprint) {
            return (*id, false);
        }
        assert!(self.nodes.len() < STATES_MAX, "more than {STATES_MAX} states: narrow the bounds");
        let id = u32::try_from(self.nodes.len()).expect("bounded above");
        self.seen.insert(fingerprint, id);
        let depth = self.nodes.get(parent as usize).map_or(0, |parent| parent.depth + 1);
        self.nodes.push(Node { parent, choice, depth, rests: state.rests() });
        self.found.states += 1;
        self.found.depth = self.found.depth.max(depth);
        self.found.resting += usize::from(state.rests());
        if let Some(outcome) = state.rollout.outcome() {
            *self.found.outcomes.entry(format!("{outcome:?}")).or_default() += 1;
        }
        (id, true)
    }

    /// Takes away, again and again, what rests or leads only to what was taken away. What is left can go on for ever or is stuck.
    fn comes_to_rest(self) -> Explored {
        let count = self.nodes.len();
        let mut ways_out = vec![0_u32; count];
        let mut into: Vec<Vec<u32>> = vec![Vec::new(); count];
        for (from, to) in &self.calm {
            ways_out[*from as usize] += 1;
            into[*to as usize].push(*from);
        }
        let mut good: Vec<bool> = self.nodes.iter().map(|node| node.rests).collect();
        let mut work: Vec<usize> = (0..count).filter(|id| good[*id]).collect();
        while let Some(id) = work.pop() {
            for from in &into[id] {
                let from = *from as usize;
                ways_out[from] -= 1;
                if ways_out[from] == 0 && !good[from] {
                    good[from] = true;
                    work.push(from);
                }
            }
        }
        let Some(bad) = good.iter().position(|good| !good) else { return self.found };
        let mut round = Vec::new();
        let mut walked = vec![bad];
        loop {
            let at = walked[walked.len() - 1];
            let mut steps = self.calm.iter().filter(|(from, to)| *from as usize == at && !good[*to as usize]);
            let Some((_, to)) = steps.next() else { break };
            round.push(*to);
            if walked.contains(&(*to as usize)) {
                break;
            }
            walked.push(*to as usize);
        }
        let last = walked[walked.len() - 1];
        let words = if round.len() == walked.len() {
            "stuck: without any further fault it goes round for ever".to_owned()
        } else {
            "stuck: nothing is on its way, no deadline is set, and it neither holds nor has ended".to_owned()
        };
        debug_assert!(last < count);
        let bad = u32::try_from(bad).expect("nodes are numbered in 32 bits");
        self.fails(words, bad, None, &round)
    }

    fn fails(mut self, violation: String, at: u32, last: Option<Choice>, round: &[u32]) -> Explored {
        let mut path: Vec<Choice> = last.into_iter().collect();
        let mut id = at;
        while let Some(node) = self.nodes.get(id as usize).filter(|node| node.parent != NONE) {
            path.push(node.choice);
            id = node.parent;
        }
        path.reverse();
        let mut text = format!("{violation}\n");
        let end = self.tell(&path, &mut text);
        if let (Some(mut state), false) = (end, round.is_empty()) {
            text.push_str("and then, without a fault:\n");
            for to in round {
                let step = self.calm_step(&state, *to);
                let Some((words, next)) = step else { break };
                text.push_str(&format!("      {words}\n"));
                state = next;
            }
        }
        self.found.counterexample = Some(Counterexample { violation, path, text });
        self.found
    }

    fn calm_step(&self, state: &State, to: u32) -> Option<(String, State)> {
        let choices = state.choices(self.setup);
        choices.into_iter().filter(|choice| state.is_calm(*choice)).find_map(|choice| {
            let next = state.after(choice, self.driver, &mut |_| {}).ok()??;
            (self.seen.get(&next.fingerprint()) == Some(&to)).then(|| (state.words(choice), next))
        })
    }

    /// Takes a path again from the beginning and writes it down. Where it ends, unless in a violation.
    fn tell(&self, path: &[Choice], text: &mut String) -> Option<State> {
        let mut said = Vec::new();
        let mut state = State::first(self.setup, self.driver, &mut |line| said.push(line));
        for (number, choice) in (1..).zip(path) {
            let before = state.ok()?;
            text.push_str(&indented(&mut said));
            text.push_str(&format!("{number:>4}. {}\n", before.words(*choice)));
            let after = before.after(*choice, self.driver, &mut |line| said.push(line));
            state = after.map(|after| after.unwrap_or(before));
        }
        text.push_str(&indented(&mut said));
        state.ok()
    }
}

fn indented(said: &mut Vec<String>) -> String {
    said.drain(..).map(|line| format!("      {line}\n")).collect()
}

/// How many of the ways in which two unlike paths meet in one state were tried, if each time the two did the same from there on.
///
/// # Errors
/// Two paths to the same canonical form from which the same choice led to different ones: something that matters is left out of the form.
pub fn meeting_paths_agree(setup: &Setup, driver: &dyn Driver, every: usize) -> Result<usize, String> {
    let signature = |state: &State| -> Result<u64, Violation> {
        let mut hasher = std::hash::DefaultHasher::new();
        for choice in state.choices(setup) {
            let next = state.after(choice, driver, &mut |_| {})?;
            (format!("{choice:?}"), next.map(|next| next.fingerprint())).hash(&mut hasher);
        }
        Ok(hasher.finish())
    };
    let first = State::first(setup, driver, &mut |_| {}).map_err(|violation| violation.0)?;
    let mut seen: HashMap<u64, u64, BuildHasherDefault<AsItIs>> = HashMap::default();
    let mut queue = VecDeque::from([first]);
    let mut again = Vec::new();
    let mut met = 0_usize;
    while let Some(state) = queue.pop_front() {
        let fingerprint = state.fingerprint();
        if seen.contains_key(&fingerprint) {
            met += 1;
            if met.is_multiple_of(every) {
                again.push(state);
            }
            continue;
        }
        seen.insert(fingerprint, signature(&state).map_err(|violation| violation.0)?);
        for choice in state.choices(setup) {
            queue.extend(state.after(choice, driver, &mut |_| {}).map_err(|violation| violation.0)?);
        }
    }
    for state in &again {
        let now = signature(state).map_err(|violation| violation.0)?;
        if seen.get(&state.fingerprint()) != Some(&now) {
            return Err(format!(
                "two rollouts with one canonical form do not behave alike: {:#?}",
                state.rollout.status()
            ));
        }
    }
    Ok(again.len())
}
