"""Looks a customer up, pages through orders and reads a field violation, by reflection alone."""

import sys

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status

address, token, email, customer_id = sys.argv[1:5]
channel = grpc.insecure_channel(address)
database = ProtoReflectionDescriptorDatabase(channel)
assert "clientele.customer.v1.CustomerService" in database.get_services()
pool = DescriptorPool(database)
metadata = [("authorization", f"Bearer {token}"), ("clientele-purpose", "service")]


def call(service, method, **fields):
    descriptor = pool.FindServiceByName(service).FindMethodByName(method)
    request = message_factory.GetMessageClass(descriptor.input_type)(**fields)
    reply = message_factory.GetMessageClass(descriptor.output_type)
    stub = channel.unary_unary(
        f"/{service}/{method}", request_serializer=lambda m: m.SerializeToString(), response_deserializer=reply.FromString
    )
    return stub(request, metadata=metadata, timeout=10)


customer = call("clientele.customer.v1.CustomerService", "LookupCustomer", identifier={"email": email}).customer
assert customer.customer_id == customer_id
assert customer.profile.profile.name.family_name == "Lovelace"

orders, pages, page_token = 0, 0, ""
while True:
    page = call(
        "clientele.order_history.v1.OrderHistoryService",
        "ListOrders",
        customer_id=customer_id,
        page_size=2,
        page_token=page_token,
    )
    orders, pages, page_token = orders + len(page.orders), pages + 1, page.next_page_token
    if not page_token:
        break

try:
    call("clientele.customer.v1.CustomerService", "GetCustomer", customer_id="not a uuid")
    raise AssertionError("a malformed id was accepted")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    details = rpc_status.from_call(error).details
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert any(d.Unpack(info) for d in details) and any(d.Unpack(bad) for d in details)
    assert (info.reason, info.domain) == ("INVALID_FIELDS", "clientele")
    assert bad.field_violations[0].field == "customer_id"

print(f"{orders} orders in {pages} pages")
