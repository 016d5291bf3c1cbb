//! Values that a schema allows: the plainest one, or drawn ones at its bounds.

use serde_json::{Map, Number, Value, json};

use super::{Described, Draw};

/// Deeper than this only what must be there is made.
const DEPTH_MAX: usize = 5;
const TOKEN_PATTERN: &str = "^[A-Za-z0-9_-]{1,64}$";
const EDGES: [i64; 9] = [
    0,
    1,
    -1,
    2,
    255,
    2_147_483_647,
    4_294_967_295,
    9_007_199_254_740_993,
    i64::MAX,
];
const TEXTS: [&str; 14] = [
    "hello",
    "",
    " ",
    "a",
    "привіт, як справи?",
    "\u{1F469}\u{200D}\u{1F52C} e\u{301} \u{202E}right",
    "line\nbreak\ttab",
    "nul\u{0}inside",
    "'; DROP TABLE invocation; --",
    "{{instructions}} ${PATH} %s %n",
    "<script>alert(1)</script>",
    "../../etc/passwd",
    "mesh.invoke.*.>",
    "\u{FEFF}bom",
];

/// Where values come from.
pub(crate) struct Values<'a> {
    api: &'a Described,
    /// `None`: always the plainest value.
    draw: Option<&'a mut Draw>,
    /// Ids of what is there; one is taken where its kind is asked for.
    known: &'a [String],
}

impl<'a> Values<'a> {
    pub(crate) fn plain(api: &'a Described) -> Self {
        Self {
            api,
            draw: None,
            known: &[],
        }
    }

    pub(crate) fn drawn(api: &'a Described, draw: &'a mut Draw, known: &'a [String]) -> Self {
        Self {
            api,
            draw: Some(draw),
            known,
        }
    }

    pub(crate) fn of(&mut self, schema: &Value) -> Value {
        self.at(schema, 0)
    }

    fn percent(&mut self, chance: usize) -> bool {
        self.draw.as_mut().is_some_and(|draw| draw.percent(chance))
    }

    fn below(&mut self, count: usize) -> usize {
        self.draw.as_mut().map_or(0, |draw| draw.below(count))
    }

    fn at(&mut self, schema: &Value, depth: usize) -> Value {
        let schema = self.api.resolve(schema);
        for name in ["oneOf", "anyOf"] {
            if let Some(choices) = schema[name].as_array() {
                // `null` is a choice of its own; the plainest value is something.
                let chosen = self.below(choices.len());
                let plainest = choices.iter().find(|one| one["type"] != "null");
                let chosen = if self.draw.is_some() {
                    choices.get(chosen)
                } else {
                    plainest
                };
                return chosen.map_or(Value::Null, |one| self.at(one, depth));
            }
        }
        if let Some(parts) = schema["allOf"].as_array() {
            return self.merged(parts, depth);
        }
        if let Some(choices) = schema["enum"].as_array() {
            let chosen = self.below(choices.len());
            return choices[chosen].clone();
        }
        if !schema["const"].is_null() {
            return schema["const"].clone();
        }
        let kind = match &schema["type"] {
            Value::Array(kinds) => {
                let chosen = self.below(kinds.len());
                kinds[chosen].as_str().unwrap_or_default().to_owned()
            }
            Value::String(kind) => kind.clone(),
            _ if schema["properties"].is_object() => "object".to_owned(),
            _ => String::new(),
        };
        match kind.as_str() {
            "object" => self.object(schema, depth),
            "array" => self.array(schema, depth),
            "string" => self.string(schema),
            "integer" => self.integer(schema),
            "number" => self.number(schema),
            "boolean" => json!(self.percent(50)),
            "null" => Value::Null,
            _ => self.anything(),
        }
    }

    fn merged(&mut self, parts: &[Value], depth: usize) -> Value {
        let mut all = Map::new();
        for part in parts {
            match self.at(part, depth) {
                Value::Object(fields) => all.extend(fields),
                other => return other,
            }
        }
        Value::Object(all)
    }

    fn object(&mut self, schema: &Value, depth: usize) -> Value {
        let required: Vec<&str> = schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let mut made = Map::new();
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let is_wanted = required.contains(&name.as_str()) || (depth < DEPTH_MAX && self.percent(35));
            if is_wanted {
                made.insert(name.clone(), self.at(property, depth + 1));
            }
        }
        let further = &schema["additionalProperties"];
        if further.is_object() && depth < DEPTH_MAX && self.percent(40) {
            for name in ["region", "k"] {
                made.insert(name.to_owned(), self.at(further, depth + 1));
            }
        }
        Value::Object(made)
    }

    fn array(&mut self, schema: &Value, depth: usize) -> Value {
        let least = usize::try_from(schema["minItems"].as_u64().unwrap_or(0)).unwrap_or(0);
        let further = if depth < DEPTH_MAX { self.below(3) } else { 0 };
        let items = (0..least + further).map(|_| self.at(&schema["items"], depth + 1));
        items.collect()
    }

    fn string(&mut self, schema: &Value) -> Value {
        if let Some(example) = schema["example"].as_str() {
            let kind = example.split_inclusive('_').next().unwrap_or_default();
            let known = self.known.iter().find(|id| kind.ends_with('_') && id.starts_with(kind));
            let wanted = known.filter(|_| self.draw.is_some()).cloned();
            let is_taken = self.percent(70);
            return json!(wanted.filter(|_| is_taken).unwrap_or_else(|| example.to_owned()));
        }
        if schema["format"] == "date-time" {
            return json!("2026-11-21T12:00:00Z");
        }
        if schema["pattern"] == TOKEN_PATTERN {
            let names = ["sofia", "fuzzed", "a", "nobody-knows-it", "Z9_-"];
            let chosen = self.below(names.len());
            return json!(names[chosen]);
        }
        let chosen = self.below(TEXTS.len());
        let text = TEXTS[chosen];
        let least = usize::try_from(schema["minLength"].as_u64().unwrap_or(0)).unwrap_or(0);
        if self.percent(3) {
            return json!("long ".repeat(20_000));
        }
        json!(format!("{text}{}", "x".repeat(least)))
    }

    fn integer(&mut self, schema: &Value) -> Value {
        let least = schema["minimum"].as_i64().unwrap_or(0);
        let most = schema["maximum"].as_i64().unwrap_or(i64::MAX);
        let mut fits: Vec<i64> = vec![least.max(1).min(most), least];
        fits.extend(schema["maximum"].as_i64());
        fits.extend(EDGES.into_iter().filter(|edge| (least..=most).contains(edge)));
        let chosen = self.below(fits.len());
        json!(fits[chosen])
    }

    fn number(&mut self, schema: &Value) -> Value {
        let least = schema["minimum"].as_f64().unwrap_or(0.0);
        let most = schema["maximum"].as_f64().unwrap_or(1e6);
        let fits = [least.max(0.5).min(most), least, most, f64::midpoint(least, most)];
        let chosen = self.below(fits.len());
        Number::from_f64(fits[chosen]).map_or(json!(0), Value::Number)
    }

    fn anything(&mut self) -> Value {
        let all = [
            json!({"text": "hello"}),
            json!("text"),
            json!(1),
            json!(null),
            json!([1, "a"]),
            json!({}),
        ];
        let chosen = self.below(all.len());
        all[chosen].clone()
    }
}
