// Looks a customer up, pages through orders and reads a field violation, with stubs made from the
// descriptor set.
"use strict";

const assert = require("node:assert");
const fs = require("node:fs");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");
const protobuf = require("protobufjs");

const [address, token, email, customerId, descriptors] = process.argv.slice(2);
const definition = loader.loadFileDescriptorSetFromBuffer(fs.readFileSync(descriptors), { keepCase: true, longs: Number });
const { clientele } = grpc.loadPackageDefinition(definition);
const metadata = new grpc.Metadata();
metadata.set("authorization", `Bearer ${token}`);
metadata.set("clientele-purpose", "service");
const credentials = grpc.credentials.createInsecure();
const customers = new clientele.customer.v1.CustomerService(address, credentials);
const history = new clientele.order_history.v1.OrderHistoryService(address, credentials);

const call = (client, method, request) =>
  new Promise((resolve, reject) => {
    const deadline = Date.now() + 10000;
    client[method](request, metadata, { deadline }, (error, reply) => (error ? reject(error) : resolve(reply)));
  });

const { root } = protobuf.parse(`
  syntax = "proto3"; package google.rpc;
  message Any { string type_url = 1; bytes value = 2; }
  message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
  message ErrorInfo { string reason = 1; string domain = 2; map<string, string> metadata = 3; }
  message BadRequest { message FieldViolation { string field = 1; string description = 2; } repeated FieldViolation field_violations = 1; }
`, { keepCase: true });

(async () => {
  const { customer } = await call(customers, "LookupCustomer", { identifier: { email } });
  assert.equal(customer.customer_id, customerId);
  assert.equal(customer.profile.profile.name.family_name, "Lovelace");

  let orders = 0, pages = 0, page_token = "";
  do {
    const page = await call(history, "ListOrders", { customer_id: customerId, page_size: 2, page_token });
    orders += page.orders.length;
    pages += 1;
    page_token = page.next_page_token;
  } while (page_token);

  const error = await call(customers, "GetCustomer", { customer_id: "not a uuid" }).then(() => null, (error) => error);
  assert.equal(error.code, grpc.status.INVALID_ARGUMENT);
  const status = root.lookupType("google.rpc.Status").decode(error.metadata.get("grpc-status-details-bin")[0]);
  const detail = (name) => {
    const any = status.details.find((detail) => detail.type_url.endsWith(name));
    return root.lookupType(name).decode(any.value);
  };
  assert.equal(detail("google.rpc.ErrorInfo").reason, "INVALID_FIELDS");
  assert.equal(detail("google.rpc.BadRequest").field_violations[0].field, "customer_id");

  console.log(`${orders} orders in ${pages} pages`);
  process.exit(0);
})();
