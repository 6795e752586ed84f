"""Puts every mutant that cargo-mutants lists into one copy of the sources, where an environment variable chooses.

A mutant that is on stands in place of what it replaces: `(if on(N) { mutant } else { what is there })`. So all of them
are built at once, and each costs the time of the tests alone.
"""

import re

import tree_sitter_rust
from tree_sitter import Language, Parser

PARSER = Parser(Language(tree_sitter_rust.language()))
ON = "crate::mutants::on"


class NotPlaced(Exception):
    """The place of a mutant is none that can be told from its position."""


def offset(lines, position):
    """The byte that a line and a column, both from 1 and in characters, stand for."""
    line = lines[position["line"] - 1]
    return sum(len(it) for it in lines[: position["line"] - 1]) + len(line.decode()[: position["column"] - 1].encode())


class File:
    """A source file with the mutants that were found in it."""

    def __init__(self, source):
        self.source = source
        self.lines = source.splitlines(keepends=True)
        self.root = PARSER.parse(source).root_node
        # By the bytes of the node: what replaces it, as a list of (number, text).
        self.instead = {}
        # By the first byte of a function's body: what it returns at once.
        self.returns = {}
        # By the first byte of a match arm's pattern: the numbers that leave it out.
        self.left_out = {}

    def text(self, node):
        """A node's text without its comments."""
        if node.type in ("line_comment", "block_comment"):
            return ""
        parts, end = [], node.start_byte
        for child in node.children:
            parts += [self.source[end : child.start_byte].decode(), self.text(child)]
            end = child.end_byte
        return "".join(parts) + self.source[end : node.end_byte].decode()

    def at(self, start, end, kinds):
        """The outermost node of these kinds with these bytes."""
        node = self.root.descendant_for_byte_range(start, end)
        while node is not None and node.type not in kinds:
            node = node.parent
        return node

    def place(self, number, mutant):
        """Finds where a mutant belongs; NotPlaced when it cannot."""
        start = offset(self.lines, mutant["span"]["start"])
        end = offset(self.lines, mutant["span"]["end"])
        to = mutant["replacement"]
        genre = mutant["genre"]
        if self.at(start, end, {"const_item", "static_item"}) is not None:
            raise NotPlaced("in a constant")
        if genre == "FnValue" and "impl " in mutant["function"]["return_type"]:
            raise NotPlaced("of a type of its own")
        if genre == "FnValue":
            block = self.at(start, end, {"block"})
            while block is not None and block.parent.type not in ("function_item", "closure_expression"):
                block = block.parent
            if block is None or block.parent.type != "function_item":
                raise NotPlaced("no body")
            self.returns.setdefault(block.start_byte, []).append((number, to))
        elif genre == "BinaryOperator":
            node = self.at(start, end, {"binary_expression", "compound_assignment_expr"})
            operator = node and node.child_by_field_name("operator")
            if node is None or (operator.start_byte, operator.end_byte) != (start, end):
                raise NotPlaced("part of a let chain")
            left, right = node.child_by_field_name("left"), node.child_by_field_name("right")
            text = f"{self.text(left)} {to} {self.text(right)}"
            self.put(node, number, text)
        elif genre == "UnaryOperator":
            node = self.at(start, end, {"unary_expression"})
            if node is None or node.start_byte != start:
                raise NotPlaced("no operand")
            self.put(node, number, self.text(node)[end - start :])
        elif genre == "MatchArmGuard":
            pattern = self.at(start, end, {"match_pattern"})
            node = pattern and pattern.child_by_field_name("condition")
            if node is None or (node.start_byte, node.end_byte) != (start, end):
                raise NotPlaced("no guard")
            self.put(node, number, to)
        elif genre == "MatchArm":
            arm = self.at(start, end, {"match_arm"})
            pattern = arm and arm.child_by_field_name("pattern")
            if pattern is None:
                raise NotPlaced("no arm")
            self.left_out.setdefault(pattern.start_byte, []).append(number)
        elif genre == "StructField":
            field = self.at(start, end, {"field_initializer", "shorthand_field_initializer"})
            base = field and next((it for it in field.parent.children if it.type == "base_field_initializer"), None)
            value = field and field.child_by_field_name("value")
            if base is None or value is None:
                raise NotPlaced("no base")
            of_base = f"({self.text(base)[2:]}).{self.text(field.child_by_field_name('field'))}"
            self.put(value, number, of_base)
        else:
            raise NotPlaced(genre)

    def put(self, node, number, text):
        self.instead.setdefault((node.start_byte, node.end_byte, node.type), []).append((number, text))

    def mutated(self):
        """The file's text, and the first and last line of each mutant."""
        text = re.sub(r"\bconst fn\b", "fn", self.render(self.root))
        lines = {}
        for at, line in enumerate(text.split("\n"), 1):
            for kind, number in re.findall(r"/\*([BE])(\d+)\*/", line):
                first, _ = lines.get(int(number), (at, at))
                lines[int(number)] = (first, at)
        return text, lines

    def render(self, node):
        """A node's text, with the mutants in it. Each has lines of its own, which the compiler can name."""
        whole = self.inside(node)
        for number, text in self.instead.get((node.start_byte, node.end_byte, node.type), []):
            whole = f"(if {ON}({number}) {{\n{marked(number, text)}\n}} else {{ {whole} }})"
        return whole

    def inside(self, node):
        parts, end = [], node.start_byte
        for child in node.children:
            parts += [self.source[end : child.start_byte].decode(), self.render(child)]
            end = child.end_byte
        whole = "".join(parts) + self.source[end : node.end_byte].decode()
        if node.type == "block" and node.start_byte in self.returns:
            early = "".join(
                f"\nif {ON}({number}) {{\n{marked(number, f'return {text};')}\n}}\n"
                for number, text in self.returns[node.start_byte]
            )
            whole = "{" + early + whole[1:]
        if node.type == "match_pattern" and node.start_byte in self.left_out:
            off = " && ".join(marked(number, f"!{ON}({number})") for number in self.left_out[node.start_byte])
            is_guarded = node.child_by_field_name("condition") is not None
            whole = f"{whole} && {off}" if is_guarded else f"{whole} if {off}"
        return whole


def marked(number, text):
    return f"/*B{number}*/ {text} /*E{number}*/"
