/**
 * One stem everywhere: config key, BPF file, TypeScript file, test, doc page and symbols of a module share
 * its name, and config.schema.json is what the modules say. Needs no kernel.
 * Runs beside others.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { describe, it } from "node:test";
import { Ajv } from "ajv";
import { schemaOf } from "../src/core/config.js";
import { loadModules } from "../src/core/registry.js";

const root = path.resolve(import.meta.dirname, "../..");
const modules = await loadModules();
const stemOf = (file: string): string => path.basename(file).split(".")[0] ?? "";

describe("layout", () => {
  it("finds the five core modules", () => {
    const names = modules.map((module) => module.name);
    for (const name of ["cpu", "mem", "memleak_probes", "network", "syscall"]) {
      assert.ok(names.includes(name), name);
    }
  });

  for (const module of modules) {
    it(`${module.name} has its BPF file, TypeScript, test, doc page and config keys`, () => {
      const { name } = module;
      const there = (file: string): boolean => fs.existsSync(path.join(root, file));
      assert.ok(there(`bpf/modules/${name}.bpf.c`), "bpf");
      assert.ok(there(`src/modules/${name}.ts`) || there(`src/modules/${name}/index.ts`), "src");
      assert.ok(there(`test/${name}.test.ts`), "test");
      assert.ok(there(`docs/${name}.md`), "docs");
      const keys = Object.keys(module.config);
      assert.ok(keys.every((key) => key === `snoop_${name}` || key.startsWith(name)), keys.join());
      assert.ok(module.fileKey.startsWith(name), module.fileKey);
    });
  }

  it("has a module for every BPF file and every doc page of a module names its columns", () => {
    const files = fs.readdirSync(path.join(root, "bpf/modules"));
    const names = new Set(modules.map((module) => module.name));
    assert.deepEqual(files.map(stemOf).filter((stem) => !names.has(stem)), []);
    for (const module of modules) {
      const page = fs.readFileSync(path.join(root, `docs/${module.name}.md`), "utf8");
      const columns = module.columns({ mode: "events", places: [], parameters: [] });
      assert.ok(page.includes(columns.map((column) => column.name).join(",")), module.name);
    }
  });

  it("publishes the schema the modules make up, and it is one", () => {
    const published: unknown = JSON.parse(
      fs.readFileSync(path.join(root, "config.schema.json"), "utf8"),
    );
    assert.deepEqual(published, JSON.parse(JSON.stringify(schemaOf(modules))), "npm run schema");
    const ajv = new Ajv({ strict: false });
    assert.ok(ajv.validateSchema(schemaOf(modules)), JSON.stringify(ajv.errors));
  });

  it("has a licence line in every source file of bpf/ and native/", () => {
    const list = execFileSync("git", ["ls-files", "bpf", "native"], { cwd: root, encoding: "utf8" });
    const sources = list.split("\n").filter((file) => /\.(c|h|cc)$/.test(file));
    assert.ok(sources.length > 10);
    for (const file of sources) {
      const head = fs.readFileSync(path.join(root, file), "utf8").slice(0, 120);
      const licence = file.startsWith("bpf/") ? "GPL-2.0-only OR BSD-2-Clause" : "SPDX-License-Identifier";
      assert.ok(head.includes(licence), file);
    }
  });

  it("keeps files small enough to hold in the head", () => {
    const list = execFileSync("git", ["ls-files", "src", "bpf"], { cwd: root, encoding: "utf8" });
    for (const file of list.split("\n").filter((each) => /\.(ts|c|h)$/.test(each))) {
      const lines = fs.readFileSync(path.join(root, file), "utf8").split("\n").length;
      assert.ok(lines <= 350, `${file} has ${String(lines)} lines`);
    }
  });
});
