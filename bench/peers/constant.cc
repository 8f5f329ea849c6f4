// The limit to hold a door against: a C++ gRPC callback server that answers a constant.
#include <grpcpp/grpcpp.h>

#include <iostream>

#include "eir/v1/eligibility.grpc.pb.h"

using namespace eir::v1;

class Constant final : public Eligibility::CallbackService {
  grpc::ServerUnaryReactor* Check(grpc::CallbackServerContext* context, const CheckRequest*,
                                  CheckReply* reply) override {
    reply->set_status(STATUS_WHITELISTED);
    reply->set_reason(REASON_BOUND);
    reply->set_reason_name("bound");
    reply->set_registry_serial(1);
    reply->set_operator_serial(1);
    auto* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

  grpc::ServerUnaryReactor* CheckBatch(grpc::CallbackServerContext* context,
                                       const CheckBatchRequest* asked,
                                       CheckBatchReply* reply) override {
    for (int i = 0; i < asked->imei14_size(); i++) {
      reply->add_status(STATUS_WHITELISTED);
      reply->add_reason(REASON_BOUND);
    }
    reply->set_registry_serial(1);
    reply->set_operator_serial(1);
    auto* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }
};

int main(int, char** words) {
  Constant service;
  grpc::ServerBuilder builder;
  builder.AddListeningPort(words[1], grpc::InsecureServerCredentials());
  builder.RegisterService(&service);
  auto server = builder.BuildAndStart();
  if (!server) return 1;
  std::cout << "listening" << std::endl;
  server->Wait();
}
