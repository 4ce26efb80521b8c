//! A tiny model of the llama kind with random weights, as a GGUF file: enough for a real engine to load and to answer with.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>, version 3. The first number of the residual stream is a constant, and
//! the output layer gives every token but the words a large negative weight on it: so no answer ends before it was asked to, and all of it is
//! text.

use std::fs;
use std::path::Path;

const DIM: usize = 64;
const LAYERS: usize = 2;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const FEED_FORWARD: usize = 128;
const CONTEXT: u32 = 8_192;
const WORDS: usize = 512;
const ALIGNMENT: usize = 32;

/// Writes the model of a seed: two seeds are two models.
pub(crate) fn write(path: &Path, seed: u64) {
    fs::write(path, model(seed)).unwrap();
}

/// The keys and values, and how many there are.
#[derive(Default)]
struct Pairs {
    bytes: Vec<u8>,
    count: u64,
}

fn string(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

impl Pairs {
    fn key(&mut self, key: &str, kind: u32) -> &mut Vec<u8> {
        self.count += 1;
        string(&mut self.bytes, key);
        self.bytes.extend(kind.to_le_bytes());
        &mut self.bytes
    }

    fn number(&mut self, key: &str, value: u32) {
        self.key(key, 4).extend(value.to_le_bytes());
    }

    fn real(&mut self, key: &str, value: f32) {
        self.key(key, 6).extend(value.to_le_bytes());
    }

    fn text(&mut self, key: &str, value: &str) {
        string(self.key(key, 8), value);
    }

    fn list<T>(&mut self, key: &str, kind: u32, items: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
        let bytes = self.key(key, 9);
        bytes.extend(kind.to_le_bytes());
        bytes.extend((items.len() as u64).to_le_bytes());
        items.iter().for_each(|item| write(bytes, item));
    }
}

/// The tensors: what is said of them, and their data.
#[derive(Default)]
struct Tensors {
    infos: Vec<u8>,
    data: Vec<u8>,
    count: u64,
}

impl Tensors {
    /// Adds a matrix by its rows; a vector is one row.
    fn add(&mut self, name: &str, rows: usize, columns: usize, value: impl FnMut((usize, usize)) -> f32) {
        self.count += 1;
        string(&mut self.infos, name);
        // The length of a row comes first.
        let shape: &[usize] = if rows == 1 { &[columns] } else { &[columns, rows] };
        self.infos.extend(u32::try_from(shape.len()).unwrap().to_le_bytes());
        shape.iter().for_each(|length| self.infos.extend((*length as u64).to_le_bytes()));
        self.infos.extend(0_u32.to_le_bytes());
        self.infos.extend((self.data.len() as u64).to_le_bytes());
        let cells = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
        self.data.extend(cells.map(value).flat_map(f32::to_le_bytes));
        self.data.resize(self.data.len().next_multiple_of(ALIGNMENT), 0);
    }
}

/// SplitMix64, and of twelve of its numbers one that is nearly normal.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn normal(&mut self, deviation: f32) -> f32 {
        let uniform = |bits: u64| f32::from((bits >> 48) as u16) / 65_536.0;
        let sum: f32 = (0..12).map(|_| uniform(self.next())).sum();
        (sum - 6.0) * deviation
    }
}

/// Tokens with their scores and kinds: three special ones, 256 bytes, characters, words.
fn vocabulary() -> (Vec<String>, Vec<f32>, Vec<i32>, usize) {
    const UNKNOWN: i32 = 2;
    const CONTROL: i32 = 3;
    const NORMAL: i32 = 1;
    const BYTE: i32 = 6;
    let mut all: Vec<(String, f32, i32)> = vec![
        ("<unk>".to_owned(), 0.0, UNKNOWN),
        ("<s>".to_owned(), 0.0, CONTROL),
        ("</s>".to_owned(), 0.0, CONTROL),
    ];
    all.extend((0..=255_u8).map(|byte| (format!("<0x{byte:02X}>"), 0.0, BYTE)));
    all.extend(('!'..='~').chain(['▁']).map(|c| (c.to_string(), -1_000.0, NORMAL)));
    let words_from = all.len();
    let syllables: Vec<String> =
        "bdfgklmnprst".chars().flat_map(|c| "aeiou".chars().map(move |v| format!("{c}{v}"))).collect();
    let words =
        syllables.iter().flat_map(|first| syllables.iter().map(move |second| format!("▁{first}{second}")));
    for (index, word) in words.take(WORDS).enumerate() {
        all.push((word, -(index as f32), NORMAL));
    }
    let kinds = all.iter().map(|(.., kind)| *kind).collect();
    let scores = all.iter().map(|(_, score, _)| *score).collect();
    (all.into_iter().map(|(token, ..)| token).collect(), scores, kinds, words_from)
}

fn model(seed: u64) -> Vec<u8> {
    let number = |value: usize| u32::try_from(value).unwrap();
    let (tokens, scores, kinds, words_from) = vocabulary();
    let mut pairs = Pairs::default();
    pairs.text("general.architecture", "llama");
    pairs.text("general.name", &format!("tiny-random-{seed}"));
    pairs.number("general.file_type", 0);
    pairs.number("llama.context_length", CONTEXT);
    pairs.number("llama.embedding_length", number(DIM));
    pairs.number("llama.block_count", number(LAYERS));
    pairs.number("llama.feed_forward_length", number(FEED_FORWARD));
    pairs.number("llama.attention.head_count", number(HEADS));
    pairs.number("llama.attention.head_count_kv", number(KV_HEADS));
    pairs.real("llama.attention.layer_norm_rms_epsilon", 1e-5);
    pairs.number("llama.rope.dimension_count", number(DIM / HEADS));
    pairs.number("llama.vocab_size", number(tokens.len()));
    pairs.text("tokenizer.ggml.model", "llama");
    pairs.list("tokenizer.ggml.tokens", 8, &tokens, |bytes, token| string(bytes, token));
    pairs.list("tokenizer.ggml.scores", 6, &scores, |bytes, score| bytes.extend(score.to_le_bytes()));
    pairs.list("tokenizer.ggml.token_type", 5, &kinds, |bytes, kind| bytes.extend(kind.to_le_bytes()));
    pairs.number("tokenizer.ggml.unknown_token_id", 0);
    pairs.number("tokenizer.ggml.bos_token_id", 1);
    pairs.number("tokenizer.ggml.eos_token_id", 2);
    let template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:";
    pairs.text("tokenizer.chat_template", template);

    let mut draws = Draws(seed);
    let mut tensors = Tensors::default();
    let constant_column =
        |at: (usize, usize), constant: f32, drawn: f32| if at.1 == 0 { constant } else { drawn };
    tensors.add("token_embd.weight", tokens.len(), DIM, |at| constant_column(at, 2.0, draws.normal(0.3)));
    let shut = |row: usize| if row < words_from { -50.0 } else { 0.0 };
    tensors.add("output.weight", tokens.len(), DIM, |at| constant_column(at, shut(at.0), draws.normal(0.4)));
    tensors.add("output_norm.weight", 1, DIM, |_| 1.0);
    let head = DIM / HEADS;
    for layer in 0..LAYERS {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        tensors.add(&name("attn_norm"), 1, DIM, |_| 1.0);
        tensors.add(&name("ffn_norm"), 1, DIM, |_| 1.0);
        tensors.add(&name("attn_q"), HEADS * head, DIM, |_| draws.normal(0.05));
        tensors.add(&name("attn_k"), KV_HEADS * head, DIM, |_| draws.normal(0.05));
        tensors.add(&name("attn_v"), KV_HEADS * head, DIM, |_| draws.normal(0.05));
        // Nothing is added to the constant.
        let mut but_first = |at: (usize, usize)| if at.0 == 0 { 0.0 } else { draws.normal(0.05) };
        tensors.add(&name("attn_output"), DIM, HEADS * head, &mut but_first);
        tensors.add(&name("ffn_down"), DIM, FEED_FORWARD, &mut but_first);
        tensors.add(&name("ffn_gate"), FEED_FORWARD, DIM, |_| draws.normal(0.05));
        tensors.add(&name("ffn_up"), FEED_FORWARD, DIM, |_| draws.normal(0.05));
    }

    let mut file = b"GGUF".to_vec();
    file.extend(3_u32.to_le_bytes());
    file.extend(tensors.count.to_le_bytes());
    file.extend(pairs.count.to_le_bytes());
    file.extend(pairs.bytes);
    file.extend(tensors.infos);
    file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
    file.extend(tensors.data);
    file
}

#[test]
fn a_seed_is_a_model_and_two_are_two() {
    let (one, two) = (model(1), model(2));
    assert_eq!(one, model(1));
    assert_ne!(one, two);
    assert_eq!((&one[..4], one.len() % ALIGNMENT, one.len()), (&b"GGUF"[..], 0, two.len()));
}
