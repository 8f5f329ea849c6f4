%% An S13 client on Erlang/OTP diameter, strict: an answer with any decode error is reported as such.
%% Usage: erl … -run s13_client main PORT IMEI…
%% Prints one line for each step; the last is `done`.
-module(s13_client).
-export([main/1]).
-export([peer_up/3, peer_down/3, pick_peer/4, prepare_request/3, prepare_retransmit/3,
         handle_answer/4, handle_error/4, handle_request/3]).

-include_lib("diameter/include/diameter.hrl").

-define(S13, 16777252).

main([Port | Imeis]) ->
    ok = diameter:start(),
    true = diameter:subscribe(mme),
    ok = diameter:start_service(mme, [
        {'Origin-Host', "mme.epc.example.org"}, {'Origin-Realm', "epc.example.org"},
        {'Host-IP-Address', [{127,0,0,1}]},
        {'Vendor-Id', 10415}, {'Product-Name', "otp"}, {'Supported-Vendor-Id', [10415]},
        {'Vendor-Specific-Application-Id',
         [[{'Vendor-Id', 10415}, {'Auth-Application-Id', [?S13]}]]},
        {string_decode, false}, {decode_format, map}, {strict_mbit, true},
        {application, [{alias, s13}, {dictionary, s13}, {module, ?MODULE},
                       {request_errors, answer}, {answer_errors, callback}]}]),
    {ok, _} = diameter:add_transport(mme, {connect, [
        {transport_module, diameter_tcp}, {disconnect_cb, fun(_, _, _) -> {dpr, [{timeout, 5000}]} end},
        {watchdog_timer, 6000},
        {transport_config, [{raddr, {127,0,0,1}}, {rport, list_to_integer(Port)}, {reuseaddr, true}]}]}),
    receive {diameter_event, mme, {up, _, _, _, _}} -> say("up", [])
    after 10000 -> say("no peer", []), halt(1) end,
    lists:foreach(fun(Imei) -> ask(Imei, []) end, Imeis),
    ask(hd(Imeis), [{'Destination-Host', ["hss.epc.example.org"]}]),
    ask(hd(Imeis), [{'Destination-Realm', "elsewhere.example.org"}]),
    ask(hd(Imeis), [{'Terminal-Information', [{'IMEI', [""]}]}]),
    ask(hd(Imeis), [{'Terminal-Information', []}]),
    ask(hd(Imeis), [{'MSISDN', [<<16#89,16#19,16#21,16#43,16#65,16#f7>>]}]),
    ask(hd(Imeis), [{'Proxy-Info', [[{'Proxy-Host', "p1"}, {'Proxy-State', "one"}],
                                    [{'Proxy-Host', "p2"}, {'Proxy-State', "two"}]]}]),
    case Imeis of
        [_, _ | _] -> idle(100);
        _ -> ok
    end,
    ok = diameter:stop_service(mme),
    receive {diameter_event, mme, stop} -> say("done", []) after 10000 -> halt(1) end,
    halt(0).

%% The watchdog of 6 s, give or take 2, is RFC 3539's least: wait for the first DWA of it.
idle(Tries) ->
    receive
        {diameter_event, mme, {down, _, _, _}} -> say("down", []), halt(1)
    after 200 ->
        [[_ | Peer]] = [T || T <- diameter:service_info(mme, transport)],
        Counts = proplists:get_value(statistics, Peer, []),
        Dwas = lists:sum([N || {{{0, 280, 0}, recv, {'Result-Code', 2001}}, N} <- Counts]),
        case Dwas of
            0 when Tries > 0 -> idle(Tries - 1);
            _ -> say("dwas ~p", [Dwas])
        end
    end.

ask(Imei, Changes) ->
    Session = diameter:session_id("mme.epc.example.org"),
    Ordinary = #{'Session-Id' => Session, 'Auth-Session-State' => 1,
                 'Destination-Realm' => "epc.example.org", 'User-Name' => ["432110123456789"],
                 'Terminal-Information' => [{'IMEI', [Imei]}, {'Software-Version', ["07"]}]},
    Request = maps:merge(Ordinary, maps:from_list(Changes)),
    case diameter:call(mme, s13, ['ECR' | Request], [{timeout, 10000}]) of
        {answer, Header, Message, Errors, Same} ->
            say("answer ~p session ~p errors ~p error-bit ~p ~s", [
                result(Message), Same, Errors, Header, rest(Message)]);
        Other -> say("no answer ~p", [Other]), halt(1)
    end.

result(#{'Result-Code' := [Code]}) -> Code;
result(#{'Result-Code' := Code}) when is_integer(Code) -> Code;
result(#{'Experimental-Result' := [#{'Experimental-Result-Code' := Code}]}) -> Code;
result(_) -> none.

rest(Message) ->
    Status = case Message of #{'Equipment-Status' := [S]} -> S; _ -> none end,
    Proxies = [State || #{'Proxy-State' := State} <- maps:get('Proxy-Info', Message, [])],
    io_lib:format("status ~p proxies ~p", [Status, Proxies]).

say(Format, Words) -> io:format(Format ++ "~n", Words).

peer_up(_, _, State) -> State.
peer_down(_, _, State) -> State.
pick_peer([Peer | _], _, _, _) -> {ok, Peer};
pick_peer(_, _, _, _) -> false.

prepare_request(#diameter_packet{msg = ['ECR' | Avps]} = Packet, _, {_, Caps}) ->
    #diameter_caps{origin_host = {Host, _}, origin_realm = {Realm, _}} = Caps,
    Named = Avps#{'Origin-Host' => Host, 'Origin-Realm' => Realm},
    {send, Packet#diameter_packet{msg = ['ECR' | Named]}}.

prepare_retransmit(Packet, _, _) -> {send, Packet}.

handle_answer(#diameter_packet{header = Header, msg = [_ | Message], errors = Errors},
              ['ECR' | Asked], _, _) ->
    Session = iolist_to_binary(maps:get('Session-Id', Asked)),
    Same = iolist_to_binary(maps:get('Session-Id', Message, "")) =:= Session,
    {answer, Header#diameter_header.is_error, Message, Errors, Same}.

handle_error(Reason, _, _, _) -> {error, Reason}.
handle_request(_, _, _) -> discard.
