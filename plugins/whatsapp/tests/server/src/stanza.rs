//! Reading and making stanzas, and their two forms for tests: JSON, to inject, and text like XML, to read in a log.

use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use wacore_binary::builder::NodeBuilder;
use wacore_binary::node::NodeValue;
use wacore_binary::{Attrs, Jid};
pub use wacore_binary::{Node, NodeContent};

/// The server's own address.
pub const SERVER: &str = "s.whatsapp.net";

/// Why a request is refused, as the `<error/>` of its answer says it.
#[derive(Debug, Clone, Copy)]
pub struct Refusal {
    /// As in HTTP.
    pub code: u16,
    /// In words.
    pub text: &'static str,
}

impl Refusal {
    /// What is asked for does not exist.
    pub const NOT_FOUND: Self = Self { code: 404, text: "item-not-found" };
    /// It exists, and is not for the one who asks.
    pub const FORBIDDEN: Self = Self { code: 403, text: "forbidden" };
    /// It cannot be read.
    pub const BAD_REQUEST: Self = Self { code: 400, text: "bad-request" };

    /// As a node.
    pub fn node(self) -> Node {
        node("error").attr("code", self.code).attr("text", self.text).build()
    }
}

/// Begins a node.
pub fn node(tag: &'static str) -> NodeBuilder {
    NodeBuilder::new(tag)
}

/// What a builder lacks: an attribute that is not always there.
pub trait Maybe {
    /// Sets it when there is a value.
    fn maybe(self, name: &'static str, value: Option<impl Into<NodeValue>>) -> Self;
}

impl Maybe for NodeBuilder {
    fn maybe(self, name: &'static str, value: Option<impl Into<NodeValue>>) -> Self {
        match value {
            Some(value) => self.attr(name, value),
            None => self,
        }
    }
}

/// An attribute, as text.
pub fn value(node: &Node, name: &str) -> Option<String> {
    node.attrs.get(name).map(|value| value.as_str().into_owned())
}

/// An attribute without which the stanza makes no sense.
pub fn need(node: &Node, name: &str) -> Result<String, Refusal> {
    value(node, name).ok_or(Refusal::BAD_REQUEST)
}

/// An attribute that is an address.
pub fn address(node: &Node, name: &str) -> Option<Jid> {
    node.attrs.get(name)?.to_jid()
}

/// The first child with this tag.
pub fn child<'a>(node: &'a Node, tag: &str) -> Option<&'a Node> {
    each(node, tag).next()
}

/// The children with this tag.
pub fn each<'a>(node: &'a Node, tag: &str) -> impl Iterator<Item = &'a Node> {
    children(node).iter().filter(move |child| child.tag == tag)
}

/// All children.
pub fn children(node: &Node) -> &[Node] {
    node.children().unwrap_or_default()
}

/// The content, when it is bytes or text.
pub fn bytes(node: &Node) -> Option<Vec<u8>> {
    match node.content.as_ref()? {
        NodeContent::Bytes(bytes) => Some(bytes.clone()),
        NodeContent::String(text) => Some(text.as_bytes().to_vec()),
        NodeContent::Nodes(_) => None,
    }
}

/// The bytes of a child.
pub fn child_bytes(node: &Node, tag: &str) -> Option<Vec<u8>> {
    child(node, tag).and_then(bytes)
}

/// The content as text.
pub fn text(node: &Node) -> Option<String> {
    bytes(node).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// The same node with an attribute set.
pub fn with(mut node: Node, name: &'static str, value: impl Into<NodeValue>) -> Node {
    node.attrs.insert(name, value);
    node
}

/// For a log: attributes in their order, bytes by number and in hexadecimal when they are few.
pub fn to_xml(node: &Node) -> String {
    let mut out = String::new();
    write_xml(node, &mut out);
    out
}

fn write_xml(node: &Node, out: &mut String) {
    let _ = write!(out, "<{}", node.tag);
    for (name, value) in node.attrs.iter() {
        let _ = write!(out, " {name}=\"{value}\"");
    }
    match &node.content {
        None => return out.push_str("/>"),
        Some(NodeContent::String(text)) => {
            let _ = write!(out, ">{text}");
        }
        Some(NodeContent::Bytes(bytes)) if bytes.len() <= 64 => {
            let _ = write!(out, ">{}", hex::encode(bytes));
        }
        Some(NodeContent::Bytes(bytes)) => {
            let _ = write!(out, "><!-- {} bytes -->", bytes.len());
        }
        Some(NodeContent::Nodes(nodes)) => {
            out.push('>');
            for node in nodes {
                write_xml(node, out);
            }
        }
    }
    let _ = write!(out, "</{}>", node.tag);
}

/// `{"tag", "attrs": {…}, "content"?}`, where the content is a list of nodes, a text, or `{"hex": "…"}`.
pub fn to_json(node: &Node) -> Value {
    let attrs: Map<String, Value> =
        node.attrs.iter().map(|(name, value)| (name.to_string(), Value::from(value.as_str()))).collect();
    let mut all = json!({"tag": node.tag, "attrs": attrs});
    match &node.content {
        None => {}
        Some(NodeContent::String(text)) => all["content"] = Value::from(text.as_str()),
        Some(NodeContent::Bytes(bytes)) => all["content"] = json!({"hex": hex::encode(bytes)}),
        Some(NodeContent::Nodes(nodes)) => all["content"] = nodes.iter().map(to_json).collect(),
    }
    all
}

/// The other way round; `{"base64": "…"}` and `{"utf8": "…"}` are bytes, too.
pub fn from_json(value: &Value) -> Result<Node, String> {
    let tag = value["tag"].as_str().ok_or("a node needs a \"tag\"")?.to_owned();
    let mut attrs = Attrs::new();
    for (name, value) in value["attrs"].as_object().into_iter().flatten() {
        let value = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            other => return Err(format!("attribute {name:?} of <{tag}> is neither text nor a number: {other}")),
        };
        attrs.push(name.clone(), value);
    }
    let content = match &value["content"] {
        Value::Null => None,
        Value::String(text) => Some(NodeContent::String(text.as_str().into())),
        Value::Array(nodes) => Some(NodeContent::Nodes(nodes.iter().map(from_json).collect::<Result<_, _>>()?)),
        other => {
            Some(NodeContent::Bytes(bytes_of(other).ok_or_else(|| format!("content of <{tag}> is not readable"))?))
        }
    };
    Ok(Node::new(tag, attrs, content))
}

fn bytes_of(value: &Value) -> Option<Vec<u8>> {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    if let Some(text) = value["hex"].as_str() {
        return hex::decode(text).ok();
    }
    if let Some(text) = value["base64"].as_str() {
        return BASE64_STANDARD.decode(text).ok();
    }
    value["utf8"].as_str().map(|text| text.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_survives_its_json() {
        let made = node("iq")
            .attr("id", "1")
            .attr("to", "5511999990001:3@s.whatsapp.net")
            .children([node("a").bytes(vec![1, 2]).build(), node("b").string_content("x").build()])
            .build();
        let back = from_json(&to_json(&made)).unwrap();
        assert_eq!(to_json(&back), to_json(&made));
        assert_eq!(to_xml(&back), "<iq id=\"1\" to=\"5511999990001:3@s.whatsapp.net\"><a>0102</a><b>x</b></iq>");
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        assert!(from_json(&json!({"attrs": {}})).is_err());
        assert!(from_json(&json!({"tag": "a", "attrs": {"x": []}})).is_err());
        assert!(from_json(&json!({"tag": "a", "content": {"hex": "zz"}})).is_err());
    }
}
