#!/usr/bin/env python3
"""Messages in slots, and a sweep whose numbers come round: a block's word holds the ticket modulo WRAP only, as after a wrap or in a new queue at an old one's place.
free | own(process) | chk(process) | q(ticket % WRAP). Sweep: q whose slot has passed -> chk(me) -> ask again: passed -> free, else back to q.
A consumer takes its block from q or from chk. chk(dead) -> free, like own(dead).
Looks for wrong steps only (a number that came round hides a passed block until its queue moves on, so leaks are not judged; see blocks.py for those).
usage: blocks_sweep.py BLOCKS PRODUCERS PUSHES CONSUMERS KILLS WRAP [once]   once: the sweep asks only once
With KILLS it finds what is known to remain: a number that came round, met by a sweeper that dies as chk."""
import sys
B,P,PUSH,C,KILLS,WRAP=map(int,sys.argv[1:7]);MUT=sys.argv[7] if len(sys.argv)>7 else ''
N=2;NP=P+C;FREE,WR,FULL,RD='free','wr','full','rd'
passed=lambda slots,x: slots[x%N][0]%(WRAP//N)!=x//N
def rep(t,i,v): return t[:i]+(v,)+t[i+1:]
INIT=(tuple((0,FREE,-1) for _ in range(N)),(None,)*N,(0,-1),(0,-1),(('free',),)*B,(None,)*B,tuple(('L',None,None,None,0) for _ in range(NP)),(1<<NP)-1,0,0)
def steps(s):
    slots,pay,tail,head,blk,con,procs,alive,comm,deliv=s
    dead=lambda o: not alive>>o&1
    for p in range(NP):
        if not alive>>p&1: continue
        pc,a,b,m,n=procs[p]
        def to(np_,slots=slots,pay=pay,tail=tail,head=head,blk=blk,con=con,comm=comm,deliv=deliv): return (slots,pay,tail,head,blk,con,rep(procs,p,np_),alive,comm,deliv)
        def cas(i,old,new): return rep(slots,i,new) if slots[i]==old else slots
        prod=p<P;word=tail if prod else head;claimed,mark=(FREE,WR) if prod else (FULL,RD)
        L=('L',None,None,m,n)
        if pc=='L':
            if not prod or n<PUSH:
                if prod and m is None:
                    for i in range(B):
                        if blk[i]==('free',): yield to(('I',None,None,i,n),blk=rep(blk,i,('own',p)))
                else: yield to(('H',word,None,m,n))
            for i in range(B):       # sweep, by anybody at any time: in steps, so that it may be stale
                if blk[i][0] in('own','chk') and dead(blk[i][1]): yield to(('S',i,blk[i],m,n))
                if blk[i][0]=='q': yield to(('S0',i,blk[i],m,n))
            for i in range(N):
                x=slots[i]
                if x[1] in(WR,RD) and dead(x[2]): yield to(('SS',i,x,m,n))
            for w,st,mk in((tail,FREE,WR),(head,FULL,RD)):
                q=w[0]-1
                if w[0] and w[1]>=0 and slots[q%N]==(q//N,st,-1): yield to(('MK',(q,slots[q%N]),(q//N,mk,w[1]),m,n))
        elif pc=='S0': yield to(('S',a,b,m,n) if passed(slots,b[1]) else L)
        elif pc=='SS': yield to(L,slots=cas(a,b,(b[0]+1,FREE,-1)))
        elif pc=='S':
            if blk[a]!=b: yield to(L)
            elif b[0]!='q' or MUT=='once': yield to(L,blk=rep(blk,a,('free',)))
            else: yield to(('S2',a,b,m,n),blk=rep(blk,a,('chk',p)))
        elif pc=='S2': yield to(('S3',a,(b,('free',) if passed(slots,b[1]) else b),m,n))
        elif pc=='S3': yield to(L,blk=rep(blk,a,b[1]) if blk[a]==('chk',p) else blk)
        elif pc=='I': yield to(L,con=rep(con,m,(p,n)))
        elif pc=='H':
            t,o=a;q=t-1
            if t and o>=0 and slots[q%N]==(q//N,claimed,-1): yield to(('H2',a,None,m,n))
            else: yield to(('X',a,None,m,n))
        elif pc=='H2':
            q=a[0]-1;yield to(('X',a,None,m,n),slots=cas(q%N,(q//N,claimed,-1),(q//N,mark,a[1])))
        elif pc=='X': yield to(('D',a,slots[a[0]%N],m,n))
        elif pc=='D':
            t,lap,x=a[0],a[0]//N,b
            if x==(lap,claimed,-1): yield to(('CL',a,None,m,n))
            elif x[0]<lap: yield to(('FX',(t-N,x),None,m,n))
            elif prod: yield to(L)
            elif x[:2] in((lap,FREE),(lap,WR)): yield to(('FX',(t,x),None,m,n))
            elif x[0]>lap: yield to(('SK',a,None,m,n))
            else: yield to(L)
        elif pc=='SK': yield to(L,head=(a[0]+1,-1) if head==a else head)
        elif pc=='FX':
            q,x=a;i,lap=q%N,q//N
            if x[1] in(WR,RD): yield to(L,slots=cas(i,x,(lap+1,FREE,-1)) if dead(x[2]) else slots)
            else:
                w=tail if x[1]==FREE else head
                if w[0]==q+1 and w[1]>=0: yield to(('MK',(q,x),(lap,WR if x[1]==FREE else RD,w[1]),m,n))
                else: yield to(L)
        elif pc=='MK': yield to(L,slots=cas(a[0]%N,a[1],b))
        elif pc=='CL':
            if word==a:
                if prod: yield to(('B1',a[0],None,m,n),tail=(a[0]+1,p))
                else: yield to(('R1',a[0],None,m,n),head=(a[0]+1,p))
            else: yield to(L)
        elif pc=='B1':
            assert blk[m]==('own',p),('my block was taken',s)
            yield to(('W',a,None,m,n),blk=rep(blk,m,('q',a%WRAP)))
        elif pc=='W': yield to(('W3',a,None,m,n),pay=rep(pay,a%N,m))
        elif pc=='W3':
            x=slots[a%N];assert x in((a//N,FREE,-1),(a//N,WR,p)),('live producer evicted',s)
            yield to(('L',None,None,None,n+1),slots=rep(slots,a%N,(a//N,FULL,-1)),comm=comm+1)
        elif pc=='R1': yield to(('R2',a,pay[a%N],m,n))
        elif pc=='R2':
            assert blk[b]==('q',a%WRAP) or blk[b][0]=='chk',('block of a live item is gone',s)
            yield to(('R3',a,b,m,n),blk=rep(blk,b,('own',p)))
        elif pc=='R3':
            x=slots[a%N];assert x in((a//N,FULL,-1),(a//N,RD,p)),('live consumer evicted',s)
            yield to(('R4',a,b,m,n),slots=rep(slots,a%N,(a//N+1,FREE,-1)))
        elif pc=='R4':
            assert blk[b]==('own',p),('block reused under its reader',s)
            yield to(L,blk=rep(blk,b,('free',)),deliv=deliv+1)
seen={INIT};todo=[INIT];nxt={}
while todo:
    s=todo.pop();o=list(steps(s));nxt[s]=o;k=[]
    if NP-bin(s[7]).count('1')<KILLS: k=[s[:7]+(s[7]&~(1<<p),)+s[8:] for p in range(NP) if s[7]>>p&1]
    for x in o+k:
        if x not in seen: seen.add(x);todo.append(x)
print(sys.argv[1:],'states',len(nxt),'no wrong step')
