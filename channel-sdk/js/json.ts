// JSON that a network sends: a parser that calls itself for each bracket is ended by as many brackets as it takes.

/** How deep a network's JSON may be. What networks send is some ten levels deep; the host takes 128. */
const DEEPEST = 128;

/** Reads JSON. Throws when it is none, or deeper than anything that a network means. */
export function parseJson(text: string): unknown {
  if (isTooDeep(text)) throw new Error(`it is more than ${DEEPEST} levels deep`);
  return JSON.parse(text);
}

function isTooDeep(text: string): boolean {
  // With no more brackets than that it cannot be; the engine finds them faster than a loop does.
  let brackets = 0;
  for (const bracket of "[{") {
    for (let at = text.indexOf(bracket); at >= 0 && brackets <= DEEPEST; at = text.indexOf(bracket, at + 1)) brackets++;
  }
  if (brackets <= DEEPEST) return false;
  let depth = 0;
  const marks = /["[\]{}]/g;
  for (let mark = marks.exec(text); mark; mark = marks.exec(text)) {
    switch (mark[0]) {
      case '"':
        marks.lastIndex = endOfString(text, mark.index);
        break;
      case "[":
      case "{":
        if (++depth > DEEPEST) return true;
        break;
      default:
        depth--;
    }
  }
  return false;
}

/** Behind the string that begins here. */
function endOfString(text: string, start: number): number {
  for (let at = start + 1; ; at++) {
    const quote = text.indexOf('"', at);
    if (quote < 0) return text.length;
    let escapes = 0;
    while (text[quote - 1 - escapes] === "\\") escapes++;
    if (escapes % 2 === 0) return quote + 1;
    at = quote;
  }
}
