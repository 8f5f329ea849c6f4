// node ask.mjs ADDRESS PROTO_FOLDER < questions.json > answers.json
//
// questions: { checks: [CheckRequest], batch: CheckBatchRequest, stream: [CheckStreamRequest] },
// 64-bit numbers as strings.
// answers: the same keys; a check that fails is { code, details }.
import { readFileSync } from "node:fs";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const [address, protoFolder] = process.argv.slice(2);
const asked = JSON.parse(readFileSync(0, "utf8"));
const definition = loader.loadSync("eir/v1/eligibility.proto", {
  includeDirs: [protoFolder],
  keepCase: true,
  longs: String, // an IMSI code is beyond 2^53
  enums: Number,
  defaults: true,
});
const { Eligibility } = grpc.loadPackageDefinition(definition).eir.v1;
const client = new Eligibility(address, grpc.credentials.createInsecure());
const deadline = () => ({ deadline: Date.now() + 30_000 });

const unary = (method, request) =>
  new Promise((resolve) =>
    client[method](request, deadline(), (failure, reply) =>
      resolve(failure ? { code: failure.code, details: failure.details } : reply),
    ),
  );

const stream = (requests) =>
  new Promise((resolve, reject) => {
    const call = client.CheckStream(deadline());
    const replies = [];
    call.on("data", (reply) => replies.push(reply));
    call.on("error", reject);
    call.on("end", () => resolve(replies));
    requests.forEach((request) => call.write(request));
    call.end();
  });

const answers = {
  checks: await Promise.all(asked.checks.map((request) => unary("Check", request))),
  batch: await unary("CheckBatch", asked.batch),
  stream: await stream(asked.stream),
};
client.close();
process.stdout.write(JSON.stringify(answers));
